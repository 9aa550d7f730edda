/// The proxy's sockets are made known where the proxy is, and its token is handed out when they are.
import Addressing
import DataplaneIR
import Glibc
import HandOver
import Logging
import Netns
import Synchronization
import Testing
import TestSupport

@testable import Agent

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct OwnSocketKeeperTests {
    @Test func followsTheProxyWhilePodsAreEnrolled() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let heard = Heard()
            let keeper = OwnSocketKeeper(bpffs: node.bpffs, cgroup: node.cgroup, log: Logger(label: "test"))
            try keeper.start { heard.add($0) }
            let process = try node.host.spawn(["sleep", "1000"])
            var proxy = ConnectedProxy(pid: UInt32(process.pid), version: "1", generation: 1)
            proxy.rights = .init(user: 1, effective: 0, bounding: 0, hasNoNewPrivileges: true, filtersCalls: true)
            keeper.update(proxies: [proxy])
            keeper.update(pods: pods())
            let link = "\(node.bpffs)/own/proxies/\(try number(of: node.host.cgroup))/links/setsockopt"
            try eventually("attached at the proxy's cgroup") { access(link, F_OK) == 0 }
            try eventually("handed out") { heard.tokens.count == 1 && heard.tokens[0] != nil }
            // Where it is not known where a proxy is, all of ours is looked at.
            proxy.rights = nil
            keeper.update(proxies: [proxy])
            let everywhere = "\(node.bpffs)/own/proxies/\(try number(of: node.cgroup))/links/setsockopt"
            try eventually("attached at the node's cgroup") {
                access(everywhere, F_OK) == 0 && access(link, F_OK) != 0
            }
            keeper.update(pods: [:])
            try eventually("taken away") {
                ["links", "proxies", "maps/own_config"].allSatisfy { access("\(node.bpffs)/own/\($0)", F_OK) != 0 }
            }
            #expect(access("\(node.bpffs)/own/maps/own_connections", F_OK) == 0, "the steering looks into that one")
            try eventually("taken back") { heard.tokens.count == 2 && heard.tokens[1] == nil }
            #expect(keeper.problems == [])
        }
    }

    @Test func saysWhatIsWrong() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let keeper = OwnSocketKeeper(
                bpffs: "/tmp/no-bpffs", cgroup: node.cgroup, log: Logger(label: "test"))
            try keeper.start { _ in }
            keeper.update(pods: pods())
            try eventually("said") { keeper.problems.first?.contains("not in a bpf file system") == true }
        }
    }

    /// Only where it makes a difference.
    @Test func saysThatKubeletIsNotFound() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let keeper = OwnSocketKeeper(bpffs: node.bpffs, cgroup: node.cgroup, log: Logger(label: "test"))
            let heard = Heard()
            try keeper.start { heard.add($0) }
            keeper.update(pods: pods())
            try eventually("attached") { heard.tokens.count == 1 }
            #expect(keeper.problems == [])
            keeper.update(pods: pods { $0.probePorts = [8080] })
            try eventually("said") { keeper.problems.first?.contains("of STRICT pods (shop/web) are refused") == true }
            keeper.update(
                pods: pods {
                    $0.probePorts = [8080]
                    $0.portModes = [8080: .permissive]
                })
            try eventually("no longer") { keeper.problems == [] }
        }
    }

    private func pods(_ change: (inout MeshPodProgram) -> Void = { _ in }) -> [IPAddress: MeshPodProgram] {
        var pod = MeshPodProgram(name: "shop/web", uid: "1", mode: .strict)
        change(&pod)
        return [IPAddress(v4: 0x0a01_0001): pod]
    }

    /// What was handed out, without what was the same again.
    private final class Heard: Sendable {
        private let state = Mutex<[OwnSocketToken?]>([])
        var tokens: [OwnSocketToken?] { state.withLock { $0 } }
        func add(_ token: OwnSocketToken?) { state.withLock { if $0.isEmpty || $0.last != token { $0.append(token) } } }
    }

    private func number(of cgroup: String) throws -> UInt64 {
        var file = stat()
        try #require(stat(cgroup, &file) == 0)
        return UInt64(file.st_ino)
    }
}
