/// The meaning of programs, by spec row.
import Addressing
import DataplaneIR
import Testing

@Suite struct InterpreterTests {
    private let pod = IPAddress(v4: 0x0a00_0005)
    private let client = IPAddress(v4: 0xcb00_7102)
    private let nodeAddress = IPAddress(v4: 0xc0a8_0002)
    private let clusterIP = IPAddress(v4: 0xac1e_0029)
    private let vip = IPAddress(v4: 0x0102_0304)
    private let remote = SocketAddress(IPAddress(v4: 0x0a00_0101), 8080)
    private let local = SocketAddress(IPAddress(v4: 0x0a00_0001), 8080)

    private func node(_ edit: (inout NodeProgram) -> Void = { _ in }) -> NodeProgram {
        var node = NodeProgram(nodeName: "n")
        node.nodePortAddresses = [nodeAddress]
        node.localAddresses = [nodeAddress]
        node.detector = .cidrs([IPPrefix("10.0.0.0/8")].compactMap { $0 })
        node.serviceCIDRs = [IPPrefix("172.30.0.0/16")].compactMap { $0 }
        edit(&node)
        return node
    }
    /// One remote and one local endpoint: `[remote | local]`, the local set is the second.
    private func service(
        internalPolicy: TrafficPolicy = .cluster, externalPolicy: TrafficPolicy = .cluster, ranges: [IPPrefix] = [],
        cluster: Range<Int> = 0..<2, localRange: Range<Int> = 1..<2
    ) -> ServiceProgram {
        ServiceProgram(
            id: ServicePortID(namespace: "ns", service: "s", portName: "p", transport: .tcp, family: .ipv4),
            frontends: [
                Frontend(.clusterIP, clusterIP, 80), Frontend(.loadBalancer, vip, 80, sourceRanges: ranges),
                Frontend(.nodePort, nil, 30000),
            ].sorted(),
            backends: [Backend(remote), Backend(local, state: [.local, .serving])], clusterRange: cluster,
            localRange: localRange, internalPolicy: internalPolicy, externalPolicy: externalPolicy)
    }
    private func verdict(
        _ service: ServiceProgram, from source: IPAddress, to address: IPAddress, _ port: UInt16 = 80,
        transport: TransportProtocol = .tcp, node: NodeProgram? = nil
    ) -> Verdict {
        let program = DataplaneProgram(node: node ?? self.node(), services: [service.id: service])
        return Interpreter(program).verdict(
            for: Flow(
                source: source, destination: SocketAddress(address, port), transport: transport,
                origin: source == nodeAddress ? .node : .interface("eth0")))
    }
    private func targets(_ verdict: Verdict) -> [SocketAddress]? {
        if case .balance(_, let all, _) = verdict { all } else { nil }
    }
    private func rewrites(_ verdict: Verdict, source: IPAddress, chosen: SocketAddress) -> Bool? {
        if case .balance(_, _, let rule) = verdict {
            rule.isRewritten(source: source, chosen: chosen.address)
        } else {
            nil
        }
    }

    @Test func row30_internalPolicyGovernsTheClusterIPOnly() {
        let one = service(internalPolicy: .local)
        #expect(targets(verdict(one, from: pod, to: clusterIP)) == [local])
        #expect(targets(verdict(one, from: client, to: vip)) == [remote, local])
    }
    @Test func row31_localPolicyWithoutLocalEndpointsDropsWithNoneAtAllRejects() {
        let none = service(internalPolicy: .local, cluster: 0..<2, localRange: 0..<0)
        #expect(verdict(none, from: pod, to: clusterIP) == .drop)
        #expect(verdict(service(cluster: 0..<0, localRange: 0..<0), from: pod, to: clusterIP) == .reject)
    }
    @Test func row32_externalLocalPolicy() {
        let one = service(externalPolicy: .local)
        let outside = verdict(one, from: client, to: vip)
        #expect(targets(outside) == [local])
        #expect(rewrites(outside, source: client, chosen: local) == false)
    }
    @Test func rows36to39_sourceRanges() {
        let ranges = [IPPrefix("203.0.113.0/25")].compactMap { $0 }
        let one = service(ranges: ranges)
        #expect(targets(verdict(one, from: client, to: vip)) != nil)
        #expect(verdict(one, from: pod, to: vip) == .drop)
        #expect(targets(verdict(one, from: pod, to: nodeAddress, 30000)) != nil)
        #expect(verdict(one, from: vip, to: vip) == .drop)
        let open = service(ranges: [IPPrefix("192.168.0.0/24")].compactMap { $0 })
        #expect(targets(verdict(open, from: vip, to: vip)) != nil, "the node is let in, so its bound address is")
    }
    @Test func rows71to74_clusterIPSource() {
        let one = service()
        let source = { (from: IPAddress, node: NodeProgram?) in
            rewrites(verdict(one, from: from, to: clusterIP, node: node), source: from, chosen: remote)
        }
        #expect(source(pod, nil) == false)
        #expect(source(client, nil) == true)
        #expect(source(nodeAddress, nil) == true)
        #expect(source(client, node { $0.detector = .none }) == false)
        #expect(source(pod, node { $0.masqueradeAll = true }) == true)
    }
    @Test func rows77to79_localSendersSkipExternalPolicyLocal() {
        let none = service(externalPolicy: .local, localRange: 0..<0)
        let fromPod = verdict(none, from: pod, to: vip)
        #expect(targets(fromPod) == [remote, local])
        #expect(rewrites(fromPod, source: pod, chosen: remote) == false)
        let fromNode = verdict(none, from: nodeAddress, to: nodeAddress, 30000)
        #expect(targets(fromNode) == [remote, local])
        #expect(rewrites(fromNode, source: nodeAddress, chosen: remote) == true)
        #expect(verdict(none, from: client, to: vip) == .drop)
        #expect(verdict(none, from: pod, to: vip, node: node { $0.detector = .none }) == .drop)
    }
    @Test func row80_hairpinRewritesOnlyTheSenderItself() {
        let own = verdict(service(), from: local.address, to: clusterIP)
        #expect(rewrites(own, source: local.address, chosen: local) == true)
        #expect(rewrites(own, source: local.address, chosen: remote) == false)
        let away = verdict(service(), from: remote.address, to: clusterIP)
        #expect(rewrites(away, source: remote.address, chosen: remote) == false, "not on this node")
    }
    @Test func rows84to87_interfaceDetectors() {
        let one = service()
        let bridge = node { $0.detector = .bridge("eth0") }
        let prefix = node { $0.detector = .interfacePrefix("et") }
        for node in [bridge, prefix] {
            #expect(
                rewrites(verdict(one, from: client, to: clusterIP, node: node), source: client, chosen: remote) == false
            )
            #expect(
                rewrites(
                    verdict(one, from: nodeAddress, to: clusterIP, node: node), source: nodeAddress, chosen: remote)
                    == true)
        }
    }
    @Test func row85_aPodOfAnotherNodeIsExternal() {
        let one = service(externalPolicy: .local)
        let uplink = node { $0.uplinks = ["eth0"] }
        let fromElsewhere = verdict(one, from: pod, to: nodeAddress, 30000, node: uplink)
        #expect(targets(fromElsewhere) == [local])
        #expect(rewrites(fromElsewhere, source: pod, chosen: local) == false)
        #expect(targets(verdict(one, from: pod, to: nodeAddress, 30000)) == [remote, local])
        #expect(rewrites(verdict(one, from: pod, to: clusterIP, node: uplink), source: pod, chosen: remote) == false)
    }
    @Test func row92_loopbackNeverServesNodePorts() {
        let loopback = IPAddress(v4: 0x7f00_0001)
        let all = node { $0.nodePortAddresses.insert(loopback) }
        #expect(verdict(service(), from: loopback, to: loopback, 30000, node: all) == .passthrough)
    }
    @Test func rows102to105_unknownPortsAndAddresses() {
        #expect(verdict(service(), from: pod, to: clusterIP, 81) == .reject)
        #expect(verdict(service(), from: pod, to: clusterIP, 80, transport: .udp) == .reject)
        #expect(verdict(service(), from: pod, to: IPAddress(v4: 0xac1e_00ff)) == .drop)
        #expect(verdict(service(), from: pod, to: vip, 81) == .passthrough)
        #expect(verdict(service(), from: pod, to: client) == .passthrough)
    }
}
