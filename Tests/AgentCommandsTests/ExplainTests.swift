/// How an explanation looks: the golden text of one.
import AdminAPI
import Testing

@testable import AgentCommands

@Suite struct ExplainTests {
    @Test func decisionsAndEndpointsAreTables() {
        var answer = Explanation(verdict: "balance", from: "10.244.1.11", to: "10.96.0.20:80/TCP")
        answer.service = "default/python:http"
        answer.candidates = ["10.244.1.12:8080"]
        answer.source = "kept"
        answer.generation = 7
        answer.decisions = [
            .init(source: "10.96.0.20:80/TCP", outcome: "ClusterIP of default/python:http"),
            .init(source: "spec.internalTrafficPolicy", outcome: "Cluster: every usable endpoint"),
        ]
        answer.endpoints = [
            .init(address: "10.244.1.12:8080", excluded: nil),
            .init(address: "10.244.2.12:8080", excluded: "not ready"),
        ]
        #expect(
            Explain.text(answer) == """
                10.244.1.11 -> 10.96.0.20:80/TCP: default/python:http, 1 endpoint, source address kept, generation 7

                DECIDED BY                  OUTCOME
                10.96.0.20:80/TCP           ClusterIP of default/python:http
                spec.internalTrafficPolicy  Cluster: every usable endpoint

                ENDPOINT          TAKEN  WHY NOT
                10.244.1.12:8080  yes
                10.244.2.12:8080  no     not ready

                """)
    }
}
