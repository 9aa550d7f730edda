// What the controller tells, as people read it.
import AdminAPI
import ArgumentParser
import Testing

@testable import AgentCommands

@Suite struct ClusterTests {
    private var status: ControllerStatus {
        var status = ControllerStatus(identity: "controller-a", version: "1.2.3", source: .init(name: "https://api"))
        (status.pid, status.uptimeSeconds, status.services, status.routes) = (7, 3, 4, 2)
        return status
    }

    @Test func aReplicaThatIsNotReadySaysSo() {
        let text = clusterStatusText(status, wide: false)
        #expect(text.hasPrefix("controller        controller-a (heddle-controller 1.2.3, pid 7, up 3.0s)\n"))
        #expect(text.contains("\nstate             NOT ready: the first lists are not complete\n"))
        #expect(text.contains("\nservices          4\nroutes            2\n"))
    }

    @Test func problemsFindingsAndDeafServersAreLines() {
        var status = status
        status.ready = true
        status.source.problems = ["https://api/api/v1/services: forbidden"]
        (status.findings, status.findingCount) = (["HTTPRoute shop/a: spec: no"], 3)
        status.servers = [
            .init(name: "health", address: "0.0.0.0:10257"),
            .init(name: "metrics", address: "0.0.0.0:10259", problem: "taken"),
        ]
        let text = clusterStatusText(status, wide: false)
        #expect(text.contains("\nstate             ready\n") && !text.contains("10257"))
        #expect(text.contains("\nproblem           https://api/api/v1/services: forbidden\n"))
        #expect(text.contains("\nserver            metrics: does NOT listen on 0.0.0.0:10259: taken\n"))
        #expect(text.hasSuffix("\nfinding           2 more; agentctl routes --cluster shows each at its route\n"))
        #expect(clusterStatusText(status, wide: true).contains("health: 0.0.0.0:10257"))
    }

    @Test func theWebhookSaysHowItStands() {
        var status = status
        #expect(!clusterStatusText(status, wide: true).contains("webhook"))
        var webhook = ControllerStatus.Webhook()
        webhook.problems = ["Secret n/s does not exist"]
        status.webhook = webhook
        var text = clusterStatusText(status, wide: false)
        #expect(text.contains("\nwebhook           NOT serving: there is no certificate yet\n"))
        #expect(text.contains("\nproblem           Secret n/s does not exist\n"))
        (webhook.servingSeconds, webhook.certificateEndsInSeconds) = (3 * 86400, 87 * 86400)
        (webhook.isConfigured, webhook.problems) = (false, [])
        status.webhook = webhook
        text = clusterStatusText(status, wide: false)
        #expect(text.contains("\nwebhook           serving for 3d, its certificate ends in 87d; no API server asks: "))
        (webhook.certificateEndsInSeconds, webhook.isConfigured) = (-3600 * 3, true)
        status.webhook = webhook
        #expect(clusterStatusText(status, wide: false).contains("its certificate has ENDED 3h ago\n"))
    }

    @Test func routesHaveTheirFindings() {
        let list = ClusterRoutes(entries: [
            .init(
                route: "HTTPRoute shop/a", parents: ["shop/web:80", "shop/api"], rules: 2, findings: ["x: y", "z: w"]),
            .init(route: "GRPCRoute shop/b", parents: ["shop/rpc"], rules: 1, findings: []),
        ])
        let expected = """
            ROUTE             PARENTS                RULES  IN FORCE  FINDINGS
            HTTPRoute shop/a  shop/web:80, shop/api  2      -         x: y; z: w
            GRPCRoute shop/b  shop/rpc               1      -         -

            """
        #expect(clusterRouteTable(list) == expected)
    }

    /// Nobody must think that the cluster was waited for.
    @Test func theClusterIsNotWaitedFor() {
        #expect(throws: (any Error).self) { try Agentctl.parseAsRoot(["status", "--cluster", "--wait", "1s"]) }
        #expect(throws: Never.self) { try Agentctl.parseAsRoot(["status", "--cluster"]) }
    }

    @Test func whereNoControllerIsTheSentenceSaysWhereOneRuns() {
        let client = AdminClient(socket: "/nonexistent/controller.sock", program: .controller)
        let failure = #expect(throws: CommandFailure.self) { try client.get(AdminPath.status) }
        #expect(
            failure?.description == "controller not running at /nonexistent/controller.sock: No such file or "
                + "directory; run this in its pod (kubectl exec deploy/heddle-controller -- agentctl ...) or pass "
                + "--api-socket")
    }
}
