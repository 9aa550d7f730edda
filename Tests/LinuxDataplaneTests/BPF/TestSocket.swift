/// Sockets opened by the test process itself, for calls the pod driver has no word for.
import Addressing
import Glibc
import Synchronization
import TestSupport

/// A socket belongs to the cgroup its process is in when it is opened. One test at a time can be in one.
enum InCgroup {
    private static let turn = Turn()

    static func run<R>(_ cgroup: String, _ body: () throws(TestFailure) -> R) throws(TestFailure) -> R {
        turn.take()
        defer { turn.give() }
        guard let root = Cgroup2.root,
            let home = readText("/proc/self/cgroup").split(separator: "\n").first(where: { $0.hasPrefix("0::") })
        else { throw TestFailure("the test process is in no cgroup v2") }
        try writeInPlace("\(getpid())", to: cgroup + "/cgroup.procs")
        defer { try? writeInPlace("\(getpid())", to: root + home.dropFirst(3) + "/cgroup.procs") }
        return try body()
    }
}

/// A lock that is held across calls.
final class Turn: Sendable {
    private let isTaken = Atomic(false)

    func take() { while isTaken.exchange(true, ordering: .acquiring) { sched_yield() } }
    func give() { isTaken.store(false, ordering: .releasing) }
}

/// IPv4 only.
struct TestSocket: ~Copyable {
    let descriptor: Int32

    init(_ type: __socket_type, protocol: Int32 = 0) throws(TestFailure) {
        descriptor = socket(AF_INET, Int32(type.rawValue) | Int32(SOCK_CLOEXEC.rawValue), `protocol`)
        guard descriptor >= 0 else { throw .errno("open a socket") }
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }
    deinit { close(descriptor) }

    func connect(_ to: SocketAddress) throws(TestFailure) {
        let result = withName(of: to) { Glibc.connect(descriptor, $0, $1) }
        guard result == 0 else { throw .errno("connect to \(to)") }
    }
    /// Without connect(): TCP Fast Open.
    func connect(sendingTo to: SocketAddress) throws(TestFailure) {
        let fastOpen: Int32 = 0x2000_0000
        let sent = withName(of: to) { sendto(descriptor, [1], 1, fastOpen, $0, $1) }
        guard sent == 1 else { throw .errno("connect to \(to) with the first byte") }
    }
    func peer() throws(TestFailure) -> SocketAddress {
        try name("ask for the peer") { getpeername(descriptor, $0, &$1) }
    }
    /// Ends the connection of a datagram socket.
    func disconnect() throws(TestFailure) {
        var nowhere = sockaddr(sa_family: sa_family_t(AF_UNSPEC), sa_data: sockaddr().sa_data)
        guard Glibc.connect(descriptor, &nowhere, socklen_t(MemoryLayout<sockaddr>.size)) == 0 else {
            throw .errno("disconnect")
        }
    }
    func own() throws(TestFailure) -> SocketAddress {
        try name("ask for the own address") { getsockname(descriptor, $0, &$1) }
    }
    /// Sends a datagram and waits for the answer. Returns where that came from.
    func ask(_ to: SocketAddress) throws(TestFailure) -> SocketAddress {
        try send(to)
        return try sender()
    }
    func send(_ to: SocketAddress) throws(TestFailure) {
        let sent = withName(of: to) { sendto(descriptor, [1], 1, 0, $0, $1) }
        guard sent == 1 else { throw .errno("send to \(to)") }
    }
    /// Of a connected socket; returns errno or 0.
    func send() -> Int32 { Glibc.send(descriptor, [1], 1, Int32(MSG_NOSIGNAL)) == 1 ? 0 : errno }
    /// Who sent the next datagram.
    func sender() throws(TestFailure) -> SocketAddress {
        var answer = [UInt8](repeating: 0, count: 256)
        return try name("receive") { name, size in
            Int32(clamping: recvfrom(descriptor, &answer, answer.count, 0, name, &size))
        }
    }
    /// The next datagram's first field: who says it. Returns nil when receiving fails.
    func answer() -> String? {
        var answer = [UInt8](repeating: 0, count: 256)
        let count = recv(descriptor, &answer, answer.count, 0)
        return count > 0 ? String(decoding: answer[..<count].prefix { $0 != UInt8(ascii: "|") }, as: UTF8.self) : nil
    }

    private func withName<R>(of to: SocketAddress, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = to.address.v4.bigEndian
        name.sin_port = to.port.bigEndian
        return withUnsafePointer(to: name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
    private func name(
        _ what: String, _ body: (UnsafeMutablePointer<sockaddr>, inout socklen_t) -> Int32
    ) throws(TestFailure) -> SocketAddress {
        var name = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, &size) }
        }
        guard result >= 0 else { throw .errno(what) }
        return SocketAddress(IPAddress(v4: UInt32(bigEndian: name.sin_addr.s_addr)), UInt16(bigEndian: name.sin_port))
    }
}
