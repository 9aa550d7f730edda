/// A mesh of two nodes whose programs are replaced and killed under load.
import Addressing
import FoundationEssentials
import Glibc
import Netns
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct MeshTroubleTests {
    /// Of the client's node, then of the server's: no stream is cut, nobody is refused.
    @Test(arguments: DataplaneKind.allCases) func aNewProxyLosesNoStream(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let mesh = try StrictMesh(lab, dataplane)
            let folder = try TemporaryDirectory()
            var proxies: [ChildProcess] = []
            defer { for proxy in proxies { proxy.signal(SIGKILL) } }
            for (number, agent) in mesh.lab.agents.enumerated() {
                chmod(agent.directory.path, 0o711)
                let old = try #require(try agent.proxies().first)
                let held = try AddressFamily.allCases.map { try mesh.client.hold(10, to: mesh.far($0), intervalMs: 20) }
                let storm = try mesh.client.storm(.tcp, to: mesh.far(.ipv4), timeoutMs: 5000)
                let new = try agent.node.host.spawn(
                    [
                        "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                        programDirectory + "/heddle-proxy", "--config-socket", agent.proxySocket, "--metrics-address",
                        "127.0.0.1:15021", "--access-log", "off",
                    ], log: "\(folder.path)/proxy-\(number)")
                proxies.append(new)
                try eventually("the new proxy serves") { try agent.allServe(2) }
                kill(old, SIGTERM)
                try eventually("the old one lets go") { try agent.proxies().count == 1 }
                try eventually("load on the new one") {
                    try mesh.client.flow(.tcp, to: mesh.far(.ipv6), count: 20).answered == 20
                }
                #expect(kill(old, 0) == 0, "it has streams")
                let connections = try storm.stop()
                let failures = connections.filter { $0.error != 0 }
                #expect(connections.count > 20 && failures.isEmpty, "\(failures.count) of \(connections.count)")
                for held in held {
                    let before = try held.report()
                    try eventually("held streams go on") { try held.report().exchanges > before.exchanges + 20 }
                    let report = try held.release()
                    #expect(report.alive == 10 && report.errors.isEmpty, "\(report)")
                }
                try eventually("the old one ends with its last stream") { kill(old, 0) != 0 }
            }
            mesh.expectNothingInTheClear()
        }
    }

    /// Agents and proxies are killed, pods come and go, certificates live for ten seconds, and all that under load:
    /// nobody is let in who is not to be, nothing is sent in the clear, connections fail only while a program is dead,
    /// and afterwards everything is as it should be, within 128 MB. HEDDLE_STORM_SECONDS makes it longer.
    @Test(arguments: DataplaneKind.allCases) func aStorm(dataplane: DataplaneKind) throws {
        let seconds = ProcessInfo.processInfo.environment["HEDDLE_STORM_SECONDS"].flatMap(UInt64.init) ?? 8
        var random = SeededGenerator()
        try Lab.with { lab in
            let mesh = try StrictMesh(lab, dataplane, options: ["--certificate-life", "10s"])
            let loyal = try mesh.client.storm(.tcp, to: mesh.far(.ipv4), timeoutMs: 5000)
            let web = try mesh.client.storm(.tcp, to: mesh.lab.service.v6, timeoutMs: 5000)
            let stranger = try mesh.lab.outsider.storm(.tcp, to: mesh.far(.ipv6), timeoutMs: 5000)
            var dead: [ClosedRange<UInt64>] = []
            var steps: [Int] = []
            let end = monotonicNs() + seconds * 1_000_000_000
            while monotonicNs() < end {
                let agent = mesh.lab.agents[Int.random(in: 0..<2, using: &random)]
                let start = monotonicNs()
                if steps.isEmpty { steps = (0..<4).shuffled(using: &random) }
                switch steps.removeLast() {
                case 0:
                    try agent.killAbruptly()
                    try agent.start()
                    try agent.waitUntilInSync()
                    // Sockets of the pods come from it: once the stock is used up, who comes waits for the next agent.
                    dead.append(start...monotonicNs())
                case 1:
                    for proxy in try agent.proxies() { kill(proxy, SIGKILL) }
                    try mesh.waitUntilItWorks()
                    dead.append(start...monotonicNs())
                case 2:
                    try mesh.lab.setEndpoints(near: Bool.random(using: &random))
                default:
                    try mesh.lab.enrol([mesh.lab.near], Bool.random(using: &random))
                }
                mesh.expectNothingInTheClear()
                let moment = monotonicNs() + UInt64.random(in: 0..<300_000_000, using: &random)
                try eventually("the next step") { monotonicNs() >= moment }
            }
            try mesh.lab.enrol([mesh.lab.near])
            try mesh.lab.setEndpoints(near: true)
            try mesh.lab.waitUntilEnrolled([mesh.client, mesh.lab.near, mesh.lab.far])
            try mesh.waitUntilItWorks()
            let strangers = try stranger.stop()
            #expect(strangers.count > 100 && strangers.allSatisfy { $0.error != 0 }, "the outsider was let in")
            for (name, storm) in [("pod", loyal), ("service", web)] {
                let connections = try storm.stop()
                let failures = connections.filter { one in
                    one.error != 0 && !dead.contains { $0.overlaps(one.start...one.end) }
                }
                let kinds = Dictionary(grouping: failures, by: \.error).mapValues(\.count)
                let told = failures.first.map { mesh.told(around: $0) } ?? []
                #expect(
                    connections.count > 100 && failures.isEmpty,
                    "\(name): \(kinds) of \(connections.count)\n\(told.joined(separator: "\n"))")
            }
            mesh.expectNothingInTheClear()
            for agent in mesh.lab.agents {
                for proxy in try agent.proxies() {
                    let status = readText("/proc/\(proxy)/status").split(separator: "\n")
                    let line = try #require(status.first { $0.hasPrefix("VmRSS:") })
                    let kilobytes = try #require(Int(line.filter(\.isNumber)))
                    #expect(kilobytes < 128 << 10, "\(line)")
                }
            }
        }
    }
}

/// All but one are enrolled, and take nothing in the clear.
final class StrictMesh {
    let lab: LabMesh
    let wire: PacketCapture
    var client: Pod { lab.client }

    init(_ nodes: Lab, _ dataplane: DataplaneKind, options: [String] = []) throws {
        lab = try LabMesh(nodes, dataplane, options: options)
        let enrolled = [lab.client, lab.near, lab.far]
        try lab.enrol(enrolled)
        try lab.manifests.write(
            "strict",
            """
            apiVersion: security.istio.io/v1
            kind: PeerAuthentication
            metadata: {name: default, namespace: default}
            spec: {mtls: {mode: STRICT}}
            """)
        try lab.waitUntilEnrolled(enrolled)
        wire = try PacketCapture(of: "eth0", in: try lab.nodes[1].namespace())
        let (client, far) = (lab.client, [far(.ipv4), far(.ipv6)])
        for target in far {
            try eventually("a tunnel to \(target)") { try client.flow(.tcp, to: target).answered == 1 }
            try eventually("\(target) refuses the outsider") { try isRefused(target) }
        }
        wire.forget()
    }

    func far(_ family: AddressFamily) -> SocketAddress {
        SocketAddress(lab.far.address(family), TestService.targetPort)
    }
    func waitUntilItWorks() throws {
        for target in [far(.ipv4), far(.ipv6), lab.service.v4, lab.service.v6] {
            try eventually("\(target) answers", within: .seconds(30)) {
                let result = try lab.client.flow(.tcp, to: target, count: 20)
                guard result.answered == 20 else { throw TestFailure("\(result)") }
                return true
            }
            if lab.service.v4 != target, lab.service.v6 != target {
                try eventually("\(target) refuses the outsider") { try isRefused(target) }
            }
        }
    }
    /// What the programs of both nodes logged in the half second around it.
    func told(around connection: Storm.Connection) -> [String] {
        let since = Double(monotonicNs() - connection.start) / 1e9
        let format = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        return lab.agents.flatMap { agent in
            readText(agent.directory.path + "/agent.log").split(separator: "\n").filter { line in
                let time = line.drop { $0 == "[" }.prefix { $0 != "]" && $0 != " " }
                guard let moment = try? format.parse(String(time)) else { return false }
                let isNear = abs(moment.timeIntervalSinceNow + since) < 0.5
                return isNear && line.contains("error=") && !line.contains("client reset")
            }.prefix(30).map { "\(agent.node.name): \($0)" }
        }
    }
    func isRefused(_ target: SocketAddress) throws -> Bool {
        Set(try lab.outsider.flow(.tcp, to: target).errors.keys) == [ECONNREFUSED]
    }
    /// Of all packets since it was asked last, as far as the socket's buffer held them.
    func expectNothingInTheClear(sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(wire.count(of: "far-answers") == 0, "somebody on the link can read it", sourceLocation: sourceLocation)
    }
}
