/// Beside another service proxy, and in a container: what the agent cannot have or do it says, and does when it can.
import AdminAPI
import Addressing
import FoundationEssentials
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct SideBySideTests {
    @Test("row 140: ports that another proxy has are taken over when it goes, and nothing waits for them")
    func portsAreTakenOver() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let pod = try node.addPod("pod")
            let manifests = try ManifestFolder()
            try manifests.write("lb", Self.service)
            try manifests.write("lb-1", Self.slice(pod))
            let ports = ["127.0.0.1:10249", "0.0.0.0:10256", "0.0.0.0:32001"].compactMap { SocketAddress($0) }
            for port in ports { try node.host.listen(.tcp, port) }

            let agent = try RunningAgent(
                on: node, .nftables, manifests,
                options: ["--probe-address", "127.0.0.1:10262", "--node-port-addresses", "all"])
            try eventually("the probes pass") { try ask(node, "127.0.0.1:10262/readyz").hasPrefix("200") }
            #expect(try ask(node, "127.0.0.1:10262/livez").hasPrefix("200"))
            let silent = try servers(agent).filter { $0.problem != nil }
            #expect(silent.map(\.name) == ["metrics", "health", "health check of Service default/lb"])
            #expect(silent.allSatisfy { $0.holder?.hasPrefix("pod-driver[") == true }, "\(silent)")
            let text = try agent.agentctl("status")
            #expect(text.contains("metrics: does NOT listen on 127.0.0.1:10249: pod-driver["), "\(text)")
            #expect(text.contains("--healthz-address") && text.contains("another healthCheckNodePort"), "\(text)")

            for port in ports { try node.host.unlisten(.tcp, port) }
            try eventually("all are taken over") { try servers(agent).allSatisfy { $0.problem == nil } }
            #expect(try ask(node, "127.0.0.1:10256/healthz").hasPrefix("200"))
            #expect(try ask(node, "127.0.0.1:32001/").hasPrefix("200"))
            #expect(try !agent.agentctl("status").contains("server "))
            let metrics = try ask(node, "127.0.0.1:10249/metrics")
            for kind in ["metrics", "health", "probes", "health-check"] {
                #expect(metrics.contains("heddle_servers_not_listening{server=\"\(kind)\"} 0\n"))
            }
            // A Service that is gone leaves nothing behind.
            manifests.remove("lb")
            try eventually("its health check is gone") { try servers(agent).count == 3 }
        }
    }

    @Test func settingsThatAContainerCannotMakeAreNamedUntilTheyAreMade() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let readOnly = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$@\""
            let agent = try RunningAgent(
                on: node, .nftables, try ManifestFolder(),
                wrapper: ["unshare", "--mount", "sh", "-c", readOnly, "sh"])
            let warnings = try status(agent).warnings.filter { $0.contains("sysctl -w ") }
            #expect(warnings.contains { $0.contains("sysctl -w net.ipv4.tcp_migrate_req=1, ") }, "\(warnings)")
            for warning in warnings {
                let command = warning.split(separator: "run on the node: ").last?.prefix { $0 != "," } ?? ""
                try node.host.run(command.split(separator: " ").map(String.init))
            }
            try eventually("there is nothing left to say") {
                try status(agent).warnings.allSatisfy { !$0.contains("sysctl -w ") }
            }
        }
    }

    @Test func aReportGoesToStandardOutput() throws {
        let folder = try TemporaryDirectory()
        let command =
            "\(programDirectory)/agentctl bugreport --file - --api-socket \(folder.path)/none "
            + "--bpffs \(folder.path)/none 2>\(folder.path)/told | tar -xzO heddle-bugreport/about.txt"
        let about = try run(["sh", "-c", command])
        #expect(about.hasPrefix("agentctl on "))
        #expect(readText(folder.path + "/told").contains("status ..."))
    }

    private func status(_ agent: RunningAgent) throws -> AgentStatus {
        try JSONDecoder().decode(AgentStatus.self, from: Data(agent.agentctl("status", "-o", "json").utf8))
    }
    private func servers(_ agent: RunningAgent) throws -> [AgentStatus.Server] { try status(agent).servers }

    /// The status code, and the body after it.
    private func ask(_ node: LabNode, _ target: String) throws -> String {
        let text = try node.host.run(["curl", "-s", "--max-time", "5", "-w", "\n%{http_code}", "http://\(target)"])
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        return (lines.last ?? "") + "\n" + lines.dropLast().joined(separator: "\n") + "\n"
    }

    private static let service = """
        apiVersion: v1
        kind: Service
        metadata: {name: lb, namespace: default}
        spec:
          type: LoadBalancer
          externalTrafficPolicy: Local
          healthCheckNodePort: 32001
          clusterIP: 10.96.0.20
          clusterIPs: [10.96.0.20]
          ports: [{port: 80, nodePort: 32000, targetPort: 8080}]
        """
    private static func slice(_ pod: Pod) -> String {
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: lb-1, namespace: default, labels: {kubernetes.io/service-name: lb}}
        addressType: IPv4
        ports: [{port: 8080}]
        endpoints: [{addresses: [\(pod.v4)], conditions: {ready: true}, nodeName: \(pod.nodeName ?? "")}]
        """
    }
}
