/// What the kernel makes of the proxy's claim: whom the application sees, and which connections it knows as the node's.
import Addressing
import BPF
import CDataplaneABI
import Glibc
import Netns
import Posix
import Synchronization
import Testing
import TestSupport

@testable import LinuxDataplane

@Suite(.serialized, .requiresKernel(.root, .netns, .cgroup2, .bpf)) struct OwnSocketsTests {
    private static let client = at("192.0.2.7:4242")
    private static let client6 = at("[2001:db8::7]:4242")
    /// An address of the node's pods that no pod has.
    private static let nobody = at("10.244.1.200:80")

    @Test(arguments: Listening.allCases)
    func theApplicationSeesTheClient(listening: Listening) throws {
        try OwnSocketNode.with { test in
            let application = try test.listen(listening)
            let client = listening.isIPv6 ? Self.client6 : Self.client
            let own = try test.connect(to: application, for: client)
            defer { close(own) }
            let (connection, accepted) = try application.accept()
            defer { close(connection) }
            #expect(accepted == client, "accept says it")
            #expect(peer(of: connection) == client, "getpeername says it")
            #expect(peer(of: own) == application.address, "the proxy's own view is what it was")
            #expect(try test.waiting() == 0)

            let other = try test.connect(to: application, for: nil)
            defer { close(other) }
            let (second, node) = try application.accept()
            defer { close(second) }
            #expect(node == ownAddress(of: other), "without a client: the node")
        }
    }

    /// As by a SYN cookie, where the application's end comes of the last packet of the handshake alone.
    @Test func theClientIsSeenThroughSYNCookies() throws {
        try OwnSocketNode.with { test in
            try test.pod.namespace().run { try writeInPlace("2", to: "/proc/sys/net/ipv4/tcp_syncookies") }
            let application = try test.listen(.ipv4)
            let own = try test.connect(to: application, for: Self.client)
            defer { close(own) }
            let (connection, accepted) = try application.accept()
            close(connection)
            #expect(accepted == Self.client)
            #expect(try test.waiting() == 0)
        }
    }

    @Test func theFirstAcceptIsAlwaysRight() throws {
        try OwnSocketNode.with { test in
            let application = try test.listen(.ipv4)
            for number in 1...2000 {
                let client = SocketAddress(Self.client.address, UInt16(number))
                let own = try test.connect(to: application, for: client)
                let (connection, accepted) = try application.accept()
                close(connection)
                close(own)
                try #require(accepted == client)
            }
            #expect(try test.waiting() == 0)
        }
    }

    /// Announced before the SYN leaves, and forgotten however it ends.
    @Test func aConnectionIsKnownWhileItIsMade() throws {
        try OwnSocketNode.with { test in
            let own = try test.claimed(for: Self.client)
            _ = fcntl(own, F_SETFL, O_NONBLOCK)
            #expect(dial(own, Self.nobody) == EINPROGRESS)
            let known = try #require(try test.connections().first)
            #expect(
                known.key.to.value == Self.nobody.address && UInt16(bigEndian: known.key.to_port) == Self.nobody.port)
            #expect(known.key.from.value == ownAddress(of: own)?.address)
            #expect(known.value.kind == HEDDLE_OWN_PROXY.rawValue)
            close(own)
            #expect(try test.waiting() == 0, "given up")

            let refused = try test.claimed(for: Self.client)
            #expect(dial(refused, SocketAddress(test.pod.v4, 9)) == ECONNREFUSED)
            #expect(try test.waiting() == 0, "refused")
            close(refused)
        }
    }

    @Test func onlyWhoHasTheTokenMaySpeakForOthers() throws {
        try OwnSocketNode.with { test in
            let wrong = [UInt8](repeating: 7, count: 16)
            #expect(try test.claim(for: Self.client, token: wrong, in: test.node.host) == EPERM)
            #expect(try test.claim(for: Self.client, token: wrong.map { _ in 0 }, in: test.node.host) == EPERM)
            #expect(try test.claim(for: Self.client, token: test.own.token, in: test.pod) == ENOPROTOOPT)
            #expect(try test.own.counters()["own_refused"] == 2)
            // What was not claimed is not announced either.
            let application = try test.listen(.ipv4)
            let other = try test.socket(in: test.node.host, isIPv6: false)
            defer { close(other) }
            #expect(dial(other, application.address) == 0)
            #expect(try test.own.counters()["own_announced"] == 0)
        }
    }

    /// A pod that answers nobody may not take the room of others.
    @Test func oneAddressHasItsShare() throws {
        try OwnSocketNode.with { test in
            // Who is looked for in vain is unreachable after some seconds, which a busy machine may take.
            let silence = ["ip", "neighbour", "replace", "\(Self.nobody.address)", "lladdr", "02:00:00:00:00:99"]
            try test.node.host.run(silence + ["dev", "cni0", "nud", "permanent"])
            var open: [Int32] = []
            defer { for own in open { close(own) } }
            for _ in 0..<(Int(HEDDLE_OWN_SHARE) + 10) {
                let own = try test.claimed(for: Self.client)
                _ = fcntl(own, F_SETFL, O_NONBLOCK)
                _ = dial(own, Self.nobody)
                open.append(own)
            }
            #expect(try test.waiting() == Int(HEDDLE_OWN_SHARE))
            #expect(try test.own.counters()["own_share_full"] == 10)
            let application = try test.listen(.ipv4)
            let own = try test.connect(to: application, for: Self.client)
            close(own)
            let (connection, accepted) = try application.accept()
            close(connection)
            #expect(accepted == Self.client, "others are served")
        }
    }

    @Test func aProberIsKnownByItsCgroup() throws {
        try OwnSocketNode.with { test in
            func kinds() throws -> [UInt32] {
                let socket = try test.socket(in: test.node.host, isIPv6: false)
                defer { close(socket) }
                _ = fcntl(socket, F_SETFL, O_NONBLOCK)
                _ = dial(socket, Self.nobody)
                return try test.connections().map(\.value.kind)
            }
            #expect(try kinds().isEmpty)
            try test.own.setProbers([test.node.host.cgroup])
            #expect(try kinds() == [HEDDLE_OWN_PROBE.rawValue])
            try test.own.setProbers([])
            #expect(try kinds().isEmpty)
        }
    }

    /// Else what is announced at one is never found at the other.
    @Test func whoeverIsFirstAllShareOneMap() throws {
        try OwnSocketNode.with { test in
            let bpffs = test.node.bpffs
            for _ in 0..<50 {
                try OwnSockets.remove(bpffs: bpffs)
                let maps = Mutex<[BPFDescriptor]>([])
                let threads = try (0..<4).map { _ in
                    try JoinableThread {
                        guard let map = try? OwnConnections.map(bpffs: bpffs) else { return }
                        maps.withLock { $0.append(map) }
                    }
                }
                for thread in threads { thread.join() }
                let found = maps.withLock { $0 }
                #expect(found.count == 4)
                #expect(try Set(found.map { try $0.mapID() }).count == 1)
            }
        }
    }

    /// Pods leave the mesh and enter it again while the steering goes on.
    @Test func whatIsSharedOutlivesTheAttachment() throws {
        try OwnSocketNode.with { test in
            let bpffs = test.node.bpffs
            let before = try OwnConnections.map(bpffs: bpffs).mapID()
            let own = try test.claimed(for: Self.client)
            defer { close(own) }
            _ = fcntl(own, F_SETFL, O_NONBLOCK)
            _ = dial(own, Self.nobody)
            #expect(try test.connections().count == 1)
            try OwnSockets.detach(bpffs: bpffs)
            #expect(try test.connections().isEmpty, "nobody would take it out")
            try test.restart()
            try test.attach()
            #expect(try OwnConnections.map(bpffs: bpffs).mapID() == before)
        }
    }

    @Test func aSuccessorTakesOverWithTheSameToken() throws {
        try OwnSocketNode.with { test in
            let token = test.own.token
            try test.restart()
            #expect(test.own.token == token)
            try test.attach()
            #expect(test.own.drift().isEmpty)
            let application = try test.listen(.ipv4)
            close(try test.connect(to: application, for: Self.client))
            let (connection, accepted) = try application.accept()
            close(connection)
            #expect(accepted == Self.client)
            // No proxy is connected at the moment.
            try test.own.attach(proxies: [])
            #expect(try test.claim(for: Self.client, token: token, in: test.node.host) == 0)
            // The proxy has gone elsewhere.
            try test.own.attach(proxies: [test.pod.cgroup])
            // The kernel takes a link whose pin is gone away a moment later.
            try eventually("unknown there") {
                try test.claim(for: Self.client, token: token, in: test.node.host) == ENOPROTOOPT
            }
            #expect(try OwnSockets.remove(bpffs: test.node.bpffs).isEmpty == false)
            #expect(!BPFFileSystem.exists(test.node.bpffs + "/own"))
        }
    }
}

enum Listening: CaseIterable, Sendable {
    case ipv4, everyIPv4, ipv6, dualForIPv4, dualForIPv6, multipath

    var isIPv6: Bool { self == .ipv6 || self == .dualForIPv6 }
}

/// A node whose host cgroup is that of the proxy, and a pod.
private final class OwnSocketNode {
    let node: LabNode
    let pod: Pod
    private(set) var own: OwnSockets

    static func with(_ body: (OwnSocketNode) throws -> Void) throws {
        try Lab.with { lab in try body(OwnSocketNode(lab)) }
    }
    private init(_ lab: Lab) throws {
        node = try lab.addNode()
        pod = try node.addPod("a")
        own = try Self.open(node)
        try attach()
    }
    func restart() throws { own = try Self.open(node) }
    private static func open(_ node: LabNode) throws -> OwnSockets {
        let (bpffs, cgroup) = (node.bpffs, node.cgroup)
        return try node.namespace().run { try OwnSockets(bpffs: bpffs, cgroup: cgroup) }
    }
    func attach() throws { try own.attach(proxies: [node.host.cgroup]) }

    func connections() throws -> [(key: heddle_own_key, value: heddle_own)] {
        let map: BPFMap<heddle_own_key, heddle_own> = try BPFMap(OwnConnections.map(bpffs: node.bpffs), name: "own")
        return try map.entries()
    }
    /// Connections in the making, at either end.
    func waiting() throws -> Int {
        let path = node.bpffs + "/own/maps/own_joins"
        let joins: BPFMap<heddle_handshake, heddle_own_join> = try BPFMap(
            try #require(try BPFDescriptor.pinned(at: path)), name: "own_joins")
        return try connections().count + joins.entries().count
    }

    func socket(in pod: Pod, isIPv6: Bool, protocol: Int32 = 0) throws -> Int32 {
        let descriptor = try pod.namespace().run { () throws(TestFailure) in
            try InCgroup.run(pod.cgroup) { () throws(TestFailure) in
                let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
                let descriptor = Glibc.socket(isIPv6 ? AF_INET6 : AF_INET, type, `protocol`)
                guard descriptor >= 0 else { throw .errno("open a socket") }
                return descriptor
            }
        }
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        return descriptor
    }

    /// Returns errno.
    func claim(_ descriptor: Int32, for client: SocketAddress?, token: [UInt8]) -> Int32 {
        var claim = heddle_own_claim()
        withUnsafeMutableBytes(of: &claim.token) { $0.copyBytes(from: token) }
        if let client {
            claim.client = heddle_address(client.address)
            claim.client_port = client.port.bigEndian
        }
        let size = socklen_t(MemoryLayout<heddle_own_claim>.size)
        return setsockopt(descriptor, HEDDLE_OWN_LEVEL, HEDDLE_OWN_OPTION, &claim, size) == 0 ? 0 : errno
    }
    func claim(for client: SocketAddress, token: [UInt8], in pod: Pod) throws -> Int32 {
        let descriptor = try socket(in: pod, isIPv6: false)
        defer { close(descriptor) }
        return claim(descriptor, for: client, token: token)
    }
    /// A socket of the proxy.
    func claimed(for client: SocketAddress?, isIPv6: Bool = false) throws -> Int32 {
        let descriptor = try socket(in: node.host, isIPv6: isIPv6)
        try #require(claim(descriptor, for: client, token: own.token) == 0)
        return descriptor
    }
    func connect(to application: borrowing Application, for client: SocketAddress?) throws -> Int32 {
        let descriptor = try claimed(for: client, isIPv6: !application.address.address.isIPv4)
        try #require(dial(descriptor, application.address) == 0)
        return descriptor
    }

    func listen(_ kind: Listening) throws -> Application {
        let isDual = kind == .dualForIPv4 || kind == .dualForIPv6
        let descriptor = try socket(in: pod, isIPv6: kind == .ipv6 || isDual, protocol: kind == .multipath ? 262 : 0)
        let bound: IPAddress
        switch kind {
        case .ipv4, .multipath: bound = pod.v4
        case .everyIPv4: bound = IPAddress(v4: 0)
        case .ipv6: bound = pod.v6
        case .dualForIPv4, .dualForIPv6: bound = IPAddress(high: 0, low: 0)
        }
        var name = SocketName(SocketAddress(bound, 8080))
        try #require(name.with { bind(descriptor, $0, $1) } == 0 && Glibc.listen(descriptor, 64) == 0)
        return Application(descriptor: descriptor, address: SocketAddress(kind.isIPv6 ? pod.v6 : pod.v4, 8080))
    }
}

private struct Application: ~Copyable {
    let descriptor: Int32
    let address: SocketAddress
    deinit { close(descriptor) }

    /// The connection, and whom accept names.
    func accept() throws -> (Int32, SocketAddress) {
        var name = SocketName()
        let connection = name.reading { Glibc.accept(descriptor, $0, $1) }
        try #require(connection >= 0)
        return (connection, try #require(name.address))
    }
}

private func peer(of descriptor: Int32) -> SocketAddress? {
    var name = SocketName()
    return name.reading { getpeername(descriptor, $0, $1) } == 0 ? name.address : nil
}
private func ownAddress(of descriptor: Int32) -> SocketAddress? {
    var name = SocketName()
    return name.reading { getsockname(descriptor, $0, $1) } == 0 ? name.address : nil
}
/// Returns errno.
private func dial(_ descriptor: Int32, _ to: SocketAddress) -> Int32 {
    var name = SocketName(to)
    return name.with { connect(descriptor, $0, $1) } == 0 ? 0 : errno
}

/// A socket address of either family, as C has it.
private struct SocketName {
    private var storage = sockaddr_storage()
    private var length = socklen_t(MemoryLayout<sockaddr_storage>.size)

    init() {}
    init(_ address: SocketAddress) {
        if address.address.isIPv4 {
            var name = sockaddr_in()
            name.sin_family = sa_family_t(AF_INET)
            name.sin_addr.s_addr = address.address.v4.bigEndian
            name.sin_port = address.port.bigEndian
            put(name)
        } else {
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            withUnsafeMutableBytes(of: &name.sin6_addr) { bytes in
                bytes.storeBytes(of: address.address.high.bigEndian, as: UInt64.self)
                bytes.storeBytes(of: address.address.low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
            name.sin6_port = address.port.bigEndian
            put(name)
        }
    }
    private mutating func put<Name>(_ name: Name) {
        withUnsafeBytes(of: name) { name in withUnsafeMutableBytes(of: &storage) { $0.copyMemory(from: name) } }
        length = socklen_t(MemoryLayout<Name>.size)
    }

    mutating func with(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        let length = length
        return withUnsafePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
    mutating func reading(_ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32) -> Int32 {
        withUnsafeMutablePointer(to: &length) { length in
            withUnsafeMutablePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
            }
        }
    }
    /// IPv4-mapped addresses as IPv4.
    var address: SocketAddress? {
        withUnsafeBytes(of: storage) { bytes in
            switch Int32(storage.ss_family) {
            case AF_INET:
                let name = bytes.load(as: sockaddr_in.self)
                return SocketAddress(
                    IPAddress(v4: UInt32(bigEndian: name.sin_addr.s_addr)), UInt16(bigEndian: name.sin_port))
            case AF_INET6:
                let high = UInt64(bigEndian: bytes.load(fromByteOffset: 8, as: UInt64.self))
                let low = UInt64(bigEndian: bytes.load(fromByteOffset: 16, as: UInt64.self))
                let port = UInt16(bigEndian: bytes.load(fromByteOffset: 2, as: UInt16.self))
                return SocketAddress(IPAddress(high: high, low: low), port)
            default: return nil
            }
        }
    }
}
