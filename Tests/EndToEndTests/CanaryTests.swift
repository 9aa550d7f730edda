/// The canary notices what no audit of our own entries can: hooks that are gone, rules that were flushed, a cgroup that
/// holds no pods, somebody else who answers first.
import Addressing
import BPF
import Glibc
import Netns
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct CanaryTests {
    @Test(arguments: DataplaneKind.allCases) func passesAndIsNobodysService(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let (node, agent) = try start(lab, dataplane)
            #expect(try agent.agentctl("status").contains("attached, proven"))
            #expect(try !agent.agentctl("dump-maps").contains("canary"))
            #expect(try agent.agentctl("dump-maps", "--all").contains("@heddle/canary"))
            #expect(try !agent.agentctl("services").contains("canary"))
            #expect(try agent.agentctl("dump-maps", "--diff") == "no difference\n")
            let metrics = try node.host.run(["curl", "-s", "http://127.0.0.1:10249/metrics"])
            #expect(metrics.contains("heddle_dataplane_proven 1"))
            #expect(try ready(node) == "200")
        }
    }

    @Test func aFlushedTableIsNoticed() throws {
        try Lab.with { lab in
            let (node, agent) = try start(lab, .nftables)
            // The audit would write the rules again; a rule of somebody else before ours stays.
            _ = try node.host.run(
                [
                    "nft",
                    "add table ip other; add chain ip other out { type nat hook output priority -150; }; "
                        + "add rule ip other out ip daddr 127.127.127.127 tcp dport 1 dnat to 127.0.0.1:9",
                ])
            try eventually("the canary fails", within: .seconds(10)) { try canary(agent) == "failed" }
            #expect(try ready(node) == "503")
            let status = try agent.agentctl("status")
            #expect(status.contains("FAILED") && status.contains("nft list ruleset"), "\(status)")
            _ = try node.host.run(["nft", "delete table ip other"])
            try eventually("it passes again", within: .seconds(10)) { try canary(agent) == "passed" }
            _ = try node.host.run(["nft", "flush ruleset"])
            // Repaired by the agent within moments: what is held to here is that it ends well.
            try eventually("it passes after a flush", within: .seconds(15)) {
                try canary(agent) == "passed" && agent.agentctl("verify") == "no difference\n"
            }
        }
    }

    @Test func detachedProgramsAreNoticed() throws {
        try Lab.with { lab in
            let (node, agent) = try start(lab, .ebpf)
            // The audit attaches them again within seconds, so somebody must be at it all the time.
            try eventually("the canary fails", within: .seconds(20)) {
                let link = try BPFDescriptor.pinned(at: node.bpffs + "/links/connect4")
                try? link.map(BPFLink.init)?.detach()
                return try canary(agent) == "failed"
            }
            #expect(try ready(node) == "503")
            try eventually("it passes again", within: .seconds(20)) { try canary(agent) == "passed" }
            #expect(try ready(node) == "200")
        }
    }

    @Test func aCgroupWithoutPodsIsNoticed() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let pod = try node.addPod("a")
            let manifests = try ManifestFolder()
            try manifests.write(TestService(name: "web", number: 10, pods: [pod]))
            let elsewhere = node.cgroup + "/elsewhere"
            guard mkdir(elsewhere, 0o755) == 0 else { throw TestFailure.errno("mkdir \(elsewhere)") }
            let agent = try RunningAgent(on: node, .ebpf, manifests, options: ["--cgroup", elsewhere])
            try eventually("it is said", within: .seconds(15)) {
                try agent.agentctl("status").contains("pass the cgroup v2 directory that holds the pods as --cgroup")
            }
        }
    }

    /// Nothing is wrong with the dataplane there: masquerading has no address to use, and pods cannot reach the proxy.
    @Test func aNodeWithoutAnAddressIsToldSo() throws {
        try Lab.with { lab in
            let (node, agent) = try start(lab, .nftables)
            for line in try node.host.run(["ip", "-o", "addr", "show", "scope", "global"]).split(separator: "\n") {
                let words = line.split(separator: " ")
                guard words.count > 3 else { continue }
                _ = try node.host.run(["ip", "addr", "del", String(words[3]), "dev", String(words[1])])
            }
            try eventually("the reason is said", within: .seconds(20)) {
                let status = try agent.agentctl("status", "-o", "wide")
                return status.contains("this node has no address but loopback and link-local ones")
                    && status.contains("give one of its interfaces an address")
            }
        }
    }

    private func start(_ lab: Lab, _ dataplane: DataplaneKind) throws -> (LabNode, RunningAgent) {
        let node = try lab.addNode()
        let manifests = try ManifestFolder()
        let pod = try node.addPod("a")
        try pod.serve()
        try manifests.write(TestService(name: "web", number: 10, pods: [pod]))
        let agent = try RunningAgent(on: node, dataplane, manifests)
        try eventually("the canary passes") {
            guard try canary(agent) == "passed" else { throw TestFailure(try agent.agentctl("status", "-o", "wide")) }
            return true
        }
        return (node, agent)
    }
    private func canary(_ agent: RunningAgent) throws -> String {
        let text = try agent.agentctl("status", "-o", "json")
        guard let start = text.firstRange(of: "\"canary\"") else { return "none" }
        let rest = text[start.upperBound...]
        return ["passed", "failed", "untried"].first { rest.prefix(600).contains("\"state\" : \"\($0)\"") } ?? "?"
    }
    private func ready(_ node: LabNode) throws -> String {
        try node.host.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:10256/readyz"])
    }
}
