/// `agentctl observe` and `agentctl top` against flows that the test makes.
import Addressing
import BPF
import FoundationEssentials
import Glibc
import Observation
import Testing
import TestSupport

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct TrafficTests {
    @Test(arguments: AddressFamily.allCases) func everyFlowIsSeen(family: AddressFamily) throws {
        try Lab.with { lab in
            let rig = try TrafficRig(lab, .ebpf)
            let observer = try EventLog(rig.agent)
            try seesConnections(rig, observer, family)
            try seesDatagrams(rig, observer, family)
            try seesRefusals(rig, observer, family)
            try observer.stop()
        }
    }

    private func seesConnections(_ rig: TrafficRig, _ observer: EventLog, _ family: AddressFamily) throws {
        for from in [rig.client, rig.node.host] {
            try from.flow(.tcp, to: rig.web.address(family), count: 20).mustPass()
        }
        let seen = try observer.events(80) { $0.kind == .connect || $0.kind == .closed }
        let connects = seen.filter { $0.kind == .connect }
        #expect(connects.count == 40 && connects.allSatisfy { $0.service?.rawValue == "default/web:t" })
        #expect(Set(connects.map { $0.backend?.address }) == Set(rig.pods.map { $0.address(family) }))
        #expect(connects.allSatisfy { $0.dialled == rig.web.address(family) })
        #expect(connects.allSatisfy { $0.pid != nil && $0.command == "pod-driver" })
        #expect(connects.count { $0.client?.rawValue == "node" } == 20)
        #expect(connects.count { $0.client?.rawValue == "default/client-pod" } == 20)
        #expect(Set(connects.map(\.backendPod?.rawValue)) == ["default/a", "default/b"])
        #expect(connects.count { $0.source?.address == rig.client.address(family) } == 20)
        for event in seen where event.kind == .closed {
            let name = rig.pods.first { $0.address(family) == event.backend?.address }?.name ?? ""
            // What a backend of these tests says to whoever connects.
            let greeting = event.source.map { "\(name)|\($0.address)|\($0.port)\n" } ?? ""
            #expect(event.received == UInt64(greeting.utf8.count) && event.sent == 0, "\(event)")
            #expect(event.seconds != nil && event.roundTripSeconds != nil && event.command == "pod-driver")
        }
    }

    private func seesDatagrams(_ rig: TrafficRig, _ observer: EventLog, _ family: AddressFamily) throws {
        try rig.client.flow(.udp, to: rig.web.address(family), count: 5).mustPass()
        try rig.client.flow(.udpConnected, to: rig.web.address(family), count: 5).mustPass()
        let datagrams = try observer.events(10) { $0.kind == .datagrams }
        #expect(datagrams.allSatisfy { $0.service?.rawValue == "default/web:u" && $0.protocol.rawValue == "UDP" })
        #expect(datagrams.allSatisfy { $0.source?.address == rig.client.address(family) }, "\(datagrams)")
    }

    private func seesRefusals(_ rig: TrafficRig, _ observer: EventLog, _ family: AddressFamily) throws {
        let empty = rig.empty.address(family)
        _ = try rig.client.flow(.tcp, to: empty)
        _ = try rig.client.flow(.udp, to: empty)
        let refused = try observer.events(2) { $0.kind == .refused }
        #expect(refused.map(\.error) == ["ECONNREFUSED", "ECONNREFUSED"])
        #expect(refused.map(\.service?.rawValue) == ["default/empty:t", "default/empty:u"])
        #expect(refused.allSatisfy { $0.dialled == empty && $0.backend == nil })
        _ = try rig.client.flow(.tcp, to: rig.dead.address(family))
        let failed = try observer.events(1) { $0.kind == .failed }[0]
        #expect(failed.error == "ECONNREFUSED" && failed.service?.rawValue == "default/dead:t")
        #expect(failed.command == "pod-driver" && failed.pid != nil)
    }

    /// The agent connects the socket anew: a new flow of its client, not one of the agent's, and no refusal.
    @Test(arguments: AddressFamily.allCases) func aMovedSocketIsItsClients(family: AddressFamily) throws {
        try Lab.with { lab in
            let rig = try TrafficRig(lab, .ebpf)
            let observer = try EventLog(rig.agent)
            try seesMoves(rig, observer, family)
            try observer.stop()
        }
    }

    private func seesMoves(_ rig: TrafficRig, _ observer: EventLog, _ family: AddressFamily) throws {
        let address = rig.web.address(family)
        let ours = try rig.client.open(.udpConnected, to: address)
        let node = try rig.node.host.open(.udpConnected, to: address)
        _ = try observer.events(2) { $0.kind == .datagrams }
        // Each is moved at least once, the second time for certain.
        try exchange(rig, rig.pods[0], [ours, node])
        try exchange(rig, rig.pods[1], [ours, node])
        let backend = rig.pods[1].address(family)
        let moved = try observer.events(2) { $0.backend?.address == backend }
        for event in moved {
            #expect(event.kind == .datagrams && event.service?.rawValue == "default/web:u" && event.dialled == address)
            #expect(event.pid == nil && event.command == nil && event.error == nil, "\(event)")
        }
        #expect(Set(moved.map(\.client?.rawValue)) == ["node", "default/client-pod"], "\(moved)")
        let kinds = observer.all.map(\.kind)
        #expect(!kinds.contains(.refused) && !kinds.contains(.failed))
        let status = try rig.agent.agentctl("status", "-o", "wide")
        #expect(status.contains("udp_sockets_ended 0") && !status.contains("udp_sockets_moved 0"), "\(status)")
    }

    private func exchange(_ rig: TrafficRig, _ pod: Pod, _ sockets: [OpenSocket]) throws {
        var service = rig.web
        service.pods = [pod]
        try rig.manifests.write(service)
        for socket in sockets { try eventually("\(pod.name) answers") { try socket.ask().names == [pod.name] } }
    }

    @Test func affinityIsSeen() throws {
        try Lab.with { lab in
            let rig = try TrafficRig(lab, .ebpf)
            let observer = try EventLog(rig.agent, "--service", "default/sticky")
            try rig.client.flow(.tcp, to: rig.sticky.v4, count: 5).mustPass()
            let sticky = try observer.events(5) { $0.kind == .connect }
            #expect(sticky.map(\.affinityHits) == [nil, 1, 2, 3, 4])
            #expect(Set(sticky.map(\.backend)).count == 1)
            try observer.stop()
        }
    }

    /// One event for each connection below the limit; above it, what is missing is counted.
    @Test func eventsAreLimitedAndCounted() throws {
        try Lab.with { lab in
            let rig = try TrafficRig(lab, .ebpf)
            let observer = try EventLog(rig.agent, "--rate", "100000")
            try rig.client.flow(.tcp, to: rig.web.v4, count: 2000).mustPass()
            let all = try observer.events(4000) { $0.service?.rawValue == "default/web:t" }
            #expect(all.count == 4000 && observer.lost == 0)
            #expect(try rig.isTraced())
            try observer.stop()
            // The agent forgets the higher limit, and takes its programs out, when nobody has asked for a while.
            try eventually("the tracing ends") { try !rig.isTraced() }

            let limited = try EventLog(rig.agent, "--rate", "50")
            try rig.client.flow(.tcp, to: rig.web.v4, count: 2000).mustPass()
            try eventually("every event is shown or counted") { limited.all.count + limited.lost == 4000 }
            #expect(limited.lost > 0 && limited.all.count >= 50)
            try limited.stop()
        }
    }

    /// The agent's own connections are shown on demand, and nobody is told that they were not.
    @Test(arguments: DataplaneKind.allCases) func whatTheAgentTriesCountsForNoLimit(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let rig = try TrafficRig(lab, dataplane)
            let observer = try EventLog(rig.agent, "--rate", "1", "--all")
            let own = try observer.events(8) { $0.service?.isOwn == true }
            #expect(observer.lost == 0 && own.allSatisfy { $0.kind == .connect || $0.kind == .closed })
            try observer.stop()
        }
    }

    /// Programs that the dataplane attaches anew come behind those that look on, which must then move.
    @Test func theOrderOfProgramsIsKept() throws {
        try Lab.with { lab in
            let rig = try TrafficRig(lab, .ebpf)
            let observer = try EventLog(rig.agent, "--event", "refused", "--event", "datagrams")
            _ = try rig.client.flow(.tcp, to: rig.empty.v4, count: 1)
            _ = try observer.events(1) { $0.kind == .refused }
            let old = try BPFDescriptor.pinned(at: rig.node.bpffs + "/links/connect4")?.linkID()
            try BPFDescriptor.pinned(at: rig.node.bpffs + "/links/connect4").map(BPFLink.init)?.detach()
            try eventually("the agent attaches it again") {
                try BPFDescriptor.pinned(at: rig.node.bpffs + "/links/connect4")?.linkID() != old
            }
            try eventually("refusals are seen again") {
                _ = try rig.client.flow(.tcp, to: rig.empty.v4, count: 1)
                return observer.all.count > 1
            }
            try observer.stop()
        }
    }

    @Test func trafficIsCounted() throws {
        try Lab.with { lab in
            let rig = try TrafficRig(lab, .ebpf)
            // Open before anybody counts.
            let old = try rig.client.open(.tcp, to: rig.web.v4)
            let top = try TopLog(rig.agent)
            try rig.client.flow(.tcp, to: rig.web.v4, count: 100).mustPass()
            try rig.client.flow(.udp, to: rig.web.v4, count: 10).mustPass()
            _ = try rig.client.flow(.tcp, to: rig.dead.v6, count: 7)
            _ = try rig.client.flow(.tcp, to: rig.empty.v4, count: 3)
            let held = try rig.client.hold(8, to: rig.web.v6)
            try eventually("connections are counted") {
                let tcp = top["default/web:t"]
                return tcp?.connections == 108 && tcp?.active == 9 && (tcp?.roundTripSeconds ?? 0) > 0
            }
            try eventually("the rest is counted") {
                top["default/web:u"]?.connections == 10 && top["default/dead:t"]?.failures == 7
                    && top["default/empty:t"]?.failures == 3
            }
            try eventually("bytes of open connections are counted") {
                (top["default/web:t"]?.sentBytesPerSecond ?? 0) > 0
                    && (top["default/web:t"]?.receivedBytesPerSecond ?? 0) > 0
            }
            _ = try held.release()
            try old.close()
            try eventually("none is open") { top["default/web:t"]?.active == 0 }
            try top.stop()
            let table = try rig.agent.agentctl("top", "--once", "--interval", "10ms", "--backends")
            #expect(table.contains("SERVICE") && table.contains("\(rig.pods[0].v4):8080"), "\(table)")
        }
    }

    @Test(arguments: DataplaneKind.allCases) func metricsCountByService(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let rig = try TrafficRig(
                lab, dataplane, options: ["--service-metrics", "--metrics-address", "127.0.0.1:10249"])
            func metrics() throws -> [Substring] {
                try rig.node.host.run(["curl", "-s", "http://127.0.0.1:10249/metrics"]).split(separator: "\n")
            }
            let labels = #"{namespace="default",service="web",port="t",protocol="TCP"}"#
            // What was before the counting begins is not counted: it begins within seconds.
            try eventually("the counting begins") {
                _ = try rig.client.flow(.tcp, to: rig.web.v4, count: 1)
                return try metrics().contains { $0.hasPrefix("heddle_service_connections_total" + labels) }
            }
            let held = try rig.client.hold(4, to: rig.web.v4)
            try eventually("open connections are counted") {
                try metrics().contains("heddle_service_active_connections\(labels) 4")
            }
            _ = try held.release()
            #expect(try !metrics().contains { $0.contains("heddle_service") && $0.contains("canary") })
        }
    }

    /// Clients outside pass no socket of the node: beside eBPF, connection tracking tells of them.
    @Test(arguments: DataplaneKind.allCases) func clientsOutsideAreSeen(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let rig = try TrafficRig(lab, dataplane, options: ["--node-port-addresses", "all"])
            let observer = try EventLog(rig.agent)
            let top = try TopLog(rig.agent)
            let outside = try lab.addExternalClient()
            let nodePort = SocketAddress(rig.node.host.v4, TrafficRig.nodePort)
            try outside.flow(.tcp, to: nodePort, count: 10).mustPass()
            let connects = try observer.events(10) { $0.kind == .connect }
            #expect(connects.allSatisfy { $0.source?.address == outside.v4 && $0.dialled == nodePort })
            #expect(connects.allSatisfy { $0.service?.rawValue == "default/sticky:t" }, "\(connects)")
            try eventually("they are counted") { top["default/sticky:t"]?.connections == 10 }
            try observer.stop()
            try top.stop()
        }
    }

    @Test(arguments: AddressFamily.allCases) func nftablesTellsByConntrack(family: AddressFamily) throws {
        try Lab.with { lab in
            let rig = try TrafficRig(lab, .nftables)
            try rig.node.host.run(["sh", "-c", "echo 1 > /proc/sys/net/netfilter/nf_conntrack_acct"])
            let observer = try EventLog(rig.agent)
            let top = try TopLog(rig.agent)
            let web = rig.web.address(family)
            try rig.client.flow(.tcp, to: web, count: 20).mustPass()
            try rig.client.flow(.udp, to: web, count: 5).mustPass()
            _ = try rig.client.flow(.tcp, to: rig.dead.address(family))
            let seen = try observer.events(46) { _ in true }
            let connects = seen.filter { $0.kind == .connect }
            #expect(connects.count == 21 && connects.allSatisfy { $0.source?.address == rig.client.address(family) })
            #expect(connects.count { $0.service?.rawValue == "default/web:t" && $0.dialled == web } == 20)
            #expect(Set(connects.prefix(20).map { $0.backend?.address }) == Set(rig.pods.map { $0.address(family) }))
            #expect(seen.count { $0.kind == .datagrams && $0.service?.rawValue == "default/web:u" } == 5)
            #expect(seen.count { $0.kind == .closed && $0.service?.rawValue == "default/web:t" } == 20)
            let failed = seen.filter { $0.kind == .failed }
            #expect(failed.map(\.service?.rawValue) == ["default/dead:t"] && failed.first?.error == "ECONNREFUSED")
            let held = try rig.client.hold(8, to: web)
            try eventually("connections are counted") {
                let tcp = top["default/web:t"]
                return tcp?.connections == 28 && tcp?.active == 8 && top["default/web:u"]?.connections == 5
                    && top["default/dead:t"]?.failures == 1 && (tcp?.receivedBytesPerSecond ?? 0) > 0
            }
            _ = try held.release()
            try eventually("none is open") { top["default/web:t"]?.active == 0 }
            try observer.stop()
            try top.stop()
        }
    }
}

/// A client, and services whose backends answer, refuse, or do not exist.
final class TrafficRig {
    /// Of `sticky`.
    static let nodePort: UInt16 = 30080

    let node: LabNode
    let client: Pod
    let pods: [Pod]
    let web: TestService
    let dead: TestService
    let empty = TestService(name: "empty", number: 11)
    let sticky: TestService
    let manifests: ManifestFolder
    let agent: RunningAgent

    init(_ lab: Lab, _ dataplane: DataplaneKind, options: [String] = []) throws {
        let node = try lab.addNode()
        client = try node.addPod("client-pod")
        let pods = try ["a", "b"].map { try node.addPod($0) }
        for pod in pods { try pod.serve() }
        (self.node, self.pods) = (node, pods)
        web = TestService(name: "web", number: 10, pods: pods)
        dead = TestService(name: "dead", number: 12, pods: [try node.addPod("silent")])
        sticky = TestService(name: "sticky", number: 13, pods: pods)
        manifests = try ManifestFolder()
        for service in [web, dead, empty] { try manifests.write(service) }
        try manifests.write("pods", Self.podList([client] + pods))
        let ports = "{name: t, nodePort: \(Self.nodePort),"
        try manifests.write(
            "sticky",
            sticky.yaml
                .replacing(
                    "spec:\n", with: "spec:\n  type: NodePort\n  sessionAffinity: ClientIP\n", maxReplacements: 1
                )
                .replacing("{name: t,", with: ports, maxReplacements: 1))
        agent = try RunningAgent(on: node, dataplane, manifests, options: options)
    }

    private static func podList(_ pods: [Pod]) -> String {
        pods.map { pod in
            """
            ---
            apiVersion: v1
            kind: Pod
            metadata: {name: \(pod.name), namespace: default}
            status: {podIP: "\(pod.v4)", podIPs: [{ip: "\(pod.v4)"}, {ip: "\(pod.v6)"}]}

            """
        }.joined()
    }

    /// Programs that trace are loaded: held by a descriptor of some process.
    func isTraced() throws -> Bool {
        try run(["bash", "-c", "grep -ls raw_tracepoint /proc/*/fdinfo/* | head -n 1"]).isEmpty == false
    }
}

extension FlowResult {
    func mustPass() throws(TestFailure) {
        if failed > 0 { throw TestFailure("flows failed: \(self)") }
    }
}

/// A running `agentctl observe -o json`.
final class EventLog {
    private let process: ChildProcess
    private let directory: TemporaryDirectory
    private var forgotten = 0

    init(_ agent: RunningAgent, _ options: String...) throws {
        let directory = try TemporaryDirectory()
        self.directory = directory
        process = try agent.startAgentctl(["observe", "-o", "json"] + options, log: directory.path + "/log")
        try eventually("the observing begins") { readText(directory.path + "/log").contains("observing") }
    }

    private var lines: [Substring] { readText(directory.path + "/log").split(separator: "\n") }
    var all: [FlowEvent] {
        lines.filter { $0.hasPrefix("{") }.compactMap {
            try? JSONDecoder().decode(FlowEvent.self, from: Data($0.utf8))
        }
    }
    /// How many were said to have been left out.
    var lost: Int {
        lines.filter { $0.hasPrefix("note:") }.reduce(0) { $0 + (Int($1.split(separator: " ")[1]) ?? 0) }
    }

    /// Waits for `count` of them since the last call.
    func events(_ count: Int, where isWanted: (FlowEvent) -> Bool) throws -> [FlowEvent] {
        var found: [FlowEvent] = []
        do {
            try eventually("\(count) events are shown") {
                found = all.dropFirst(forgotten).filter(isWanted)
                return found.count >= count
            }
        } catch {
            let last = lines.suffix(20).joined(separator: "\n")
            throw TestFailure("\(error); there are \(found.count) of \(count):\n\(last)")
        }
        forgotten = all.count
        return found
    }

    func stop() throws {
        process.signal(SIGTERM)
        _ = try process.wait()
    }
}

/// A running `agentctl top -o json`.
final class TopLog {
    struct Line: Decodable {
        var service: String
        var connections: Int
        var failures: Int
        var active: Int
        var receivedBytesPerSecond: Double?
        var sentBytesPerSecond: Double?
        var roundTripSeconds: Double?
    }
    private let process: ChildProcess
    private let directory: TemporaryDirectory

    init(_ agent: RunningAgent) throws {
        let directory = try TemporaryDirectory()
        self.directory = directory
        process = try agent.startAgentctl(["top", "-o", "json", "--interval", "100ms"], log: directory.path + "/log")
        try eventually("the counting begins") { readText(directory.path + "/log").contains("counting") }
    }

    /// As of the last look.
    subscript(service: String) -> Line? {
        let lines = readText(directory.path + "/log").split(separator: "\n").filter { $0.hasPrefix("[") }
        let last = lines.last { $0.hasSuffix("]") } ?? "[]"
        let decoded = try? JSONDecoder().decode([Line].self, from: Data(last.utf8))
        return decoded?.first { $0.service == service }
    }

    func stop() throws {
        process.signal(SIGTERM)
        _ = try process.wait()
    }
}
