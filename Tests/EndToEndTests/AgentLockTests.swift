/// One agent a node: the second is refused before it touches anything, and says who is there.
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct AgentLockTests {
    @Test func aSecondAgentIsRefusedWhicheverOfTheTwoItShares() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let agent = try RunningAgent(on: node, .nftables, try ManifestFolder())
            let pid = try #require(agent.pid)
            let (state, socket) = (agent.directory.path + "/state", agent.directory.path + "/agent.sock")
            for (otherState, otherSocket, shared) in [
                (state, socket, state), (state, socket + "2", state), (state + "2", socket, socket),
            ] {
                let log = agent.directory.path + "/second"
                let second = try node.host.spawn(
                    [
                        programDirectory + "/heddle-agent", "run", "--node-name", node.name, "--dataplane", "nftables",
                        "--state-dir", otherState, "--api-socket", otherSocket,
                    ] + agent.source.arguments, log: log)
                #expect(try second.wait() == 1)
                let text = readText(log)
                #expect(text.contains("pid \(pid)") && text.contains(shared), "\(text)")
                // The first one is still asked at its socket.
                try agent.waitUntilInSync()
            }
            // Killed, it leaves socket and locks behind; the next one starts at once.
            try agent.killAbruptly()
            try agent.start()
            try agent.waitUntilInSync()
            #expect(try agent.stop() == 0)
            #expect(access(socket, F_OK) != 0)
        }
    }
}
