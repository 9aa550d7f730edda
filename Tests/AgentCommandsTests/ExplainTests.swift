/// How an explanation looks: the golden text of one.
import AdminAPI
import Observation
import Testing

@testable import AgentCommands

@Suite struct ExplainTests {
    @Test func decisionsAndEndpointsAreTables() {
        var answer = Explanation(verdict: "balance", from: "10.244.1.11", to: "10.96.0.9:80/TCP")
        answer.service = "shop/py:http"
        answer.candidates = ["10.244.1.12:8080"]
        answer.source = "kept"
        answer.generation = 7
        answer.interface = "cni0"
        answer.decisions = [
            .init(
                source: "10.96.0.9:80/TCP", outcome: "ClusterIP of shop/py:http",
                object: "Service shop/py"),
            .init(
                source: "spec.internalTrafficPolicy", outcome: "Cluster: every usable endpoint",
                object: "Service shop/py"),
            .init(source: "--detect-local", outcome: "a pod of this node: the source is kept", object: "heddle-agent"),
        ]
        answer.endpoints = [
            .init(address: "10.244.1.12:8080", excluded: nil, slices: ["shop/py-1"]),
            .init(
                address: "10.244.2.12:8080", excluded: "not ready", slices: ["shop/py-1", "shop/py-2"]),
        ]
        #expect(
            Explain.text(answer) == """
                10.244.1.11 (by cni0) -> 10.96.0.9:80/TCP: shop/py:http, 1 endpoint, source address kept, generation 7

                DECIDED BY                  OF               OUTCOME
                10.96.0.9:80/TCP            Service shop/py  ClusterIP of shop/py:http
                spec.internalTrafficPolicy  Service shop/py  Cluster: every usable endpoint
                --detect-local              heddle-agent     a pod of this node: the source is kept

                ENDPOINT          SLICE                 TAKEN  WHY NOT
                10.244.1.12:8080  shop/py-1             yes
                10.244.2.12:8080  shop/py-1, shop/py-2  no     not ready

                """)
    }

    @Test func whereTheMeshHasASayItIsSaid() {
        var answer = Explanation(verdict: "proxy", from: "10.1.0.1", to: "10.1.0.2:80/TCP")
        answer.candidates = ["10.0.0.1:15001"]
        answer.passage = FlowPassage(.either, "1 of 2 endpoints take tunnels")
        let names = (client: "spiffe://d/ns/a/sa/b", server: "spiffe://d/ns/a/sa/c")
        let tunnel = FlowPassage(
            .tunnel, "both are in the mesh", clientIdentity: names.client, serverIdentity: names.server)
        answer.endpoints = [.init(address: "10.1.0.2:80", excluded: nil), .init(address: "10.1.0.3:80", excluded: nil)]
        answer.endpoints[0].passage = tunnel
        let text = Explain.text(answer)
        #expect(text.contains("\n\nin a tunnel or in the clear: 1 of 2 endpoints take tunnels\n\nENDPOINT"))
        #expect(text.contains("no     tunnel  \(names.server)  proxy\n") && text.contains("no     -       -  "))
        #expect(
            Explain.sentence(tunnel)
                == "in a tunnel from \(names.client) to \(names.server): both are in the mesh")
        #expect(Explain.sentence(FlowPassage(.plaintext, "why")) == "in the clear: why")
        #expect(Explain.sentence(FlowPassage(.none, "why")) == "by no tunnel, and so not at all: why")
    }
}
