/// Blocking IPv4 TCP sockets, as plain as the C ones: what is measured is the kernel, not a library.
import Addressing
import Glibc

struct SocketFailure: Error, CustomStringConvertible {
    let description: String
    init(_ operation: String, _ code: Int32 = errno) {
        description = "\(operation): \(String(cString: strerror(code)))"
    }
}

func withAddress<T>(_ target: SocketAddress, _ body: (UnsafePointer<sockaddr>, socklen_t) -> T) -> T {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = target.address.v4.bigEndian
    address.sin_port = target.port.bigEndian
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
}

func sendAll(_ bytes: [UInt8], on descriptor: Int32) throws {
    var sent = 0
    while sent < bytes.count {
        let count = bytes.withUnsafeBytes {
            Glibc.send(descriptor, $0.baseAddress.map { $0 + sent }, bytes.count - sent, Int32(MSG_NOSIGNAL))
        }
        guard count > 0 else { throw SocketFailure("send") }
        sent += count
    }
}

func listen(at address: SocketAddress) throws -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw SocketFailure("socket") }
    var one: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, 4)
    guard withAddress(address, { bind(descriptor, $0, $1) }) == 0 else { throw SocketFailure("bind \(address)") }
    guard listen(descriptor, 4096) == 0 else { throw SocketFailure("listen \(address)") }
    return descriptor
}

/// A connection that is closed with RST, so that no port stays in TIME_WAIT.
final class Connection {
    let descriptor: Int32
    /// Nanoseconds that connect() took.
    let connectTime: UInt64

    /// Neither connecting nor an answer takes longer than the limit without being an error.
    init(to target: SocketAddress, limitMilliseconds: Int = 5000) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw SocketFailure("socket") }
        self.descriptor = descriptor
        var abort = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &abort, socklen_t(MemoryLayout<linger>.size))
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        var limit = timeval(tv_sec: limitMilliseconds / 1000, tv_usec: limitMilliseconds % 1000 * 1000)
        for option in [SO_SNDTIMEO, SO_RCVTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        let start = monotonicNanoseconds()
        let result = withAddress(target) { connect(descriptor, $0, $1) }
        connectTime = monotonicNanoseconds() - start
        guard result == 0 else { throw SocketFailure("connect \(target)") }
    }
    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) throws { try sendAll(bytes, on: descriptor) }
    /// Sends, and receives as much: both fit into one packet.
    func exchange(_ bytes: [UInt8]) throws {
        try send(bytes)
        try receive(bytes.count)
    }
    /// Tells the server that this was all, and waits until it has read it.
    func awaitEnd() throws {
        guard shutdown(descriptor, Int32(SHUT_WR)) == 0 else { throw SocketFailure("shutdown") }
        try receive(1)
    }
    /// No byte more in either direction.
    func endInOrder() throws {
        guard shutdown(descriptor, Int32(SHUT_WR)) == 0 else { throw SocketFailure("shutdown") }
        var byte: UInt8 = 0
        guard recv(descriptor, &byte, 1, 0) == 0 else { throw SocketFailure("the server's end", EPROTO) }
    }
    private func receive(_ expected: Int) throws {
        let count = withUnsafeTemporaryAllocation(byteCount: expected, alignment: 1) {
            recv(descriptor, $0.baseAddress, expected, Int32(truncatingIfNeeded: MSG_WAITALL))
        }
        guard count == expected else { throw SocketFailure("receive", count < 0 ? errno : EPIPE) }
    }
}

/// Sends from a new socket without connecting it, and waits for the answer.
func exchangeDatagram(_ bytes: [UInt8], with target: SocketAddress) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
    guard descriptor >= 0 else { throw SocketFailure("socket") }
    defer { close(descriptor) }
    var limit = timeval(tv_sec: 5, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    let sent = withAddress(target) { sendto(descriptor, bytes, bytes.count, 0, $0, $1) }
    guard sent == bytes.count else { throw SocketFailure("send to \(target)") }
    let count = withUnsafeTemporaryAllocation(byteCount: bytes.count, alignment: 1) {
        recvfrom(descriptor, $0.baseAddress, bytes.count, 0, nil, nil)
    }
    guard count == bytes.count else { throw SocketFailure("receive from \(target)") }
}

/// Connects and reads the one byte by which the server tells who it is; nil when that fails.
func whoAnswers(at target: SocketAddress) -> UInt8? {
    guard let connection = try? Connection(to: target) else { return nil }
    var byte: UInt8 = 0
    return read(connection.descriptor, &byte, 1) == 1 ? byte : nil
}

/// Accepts for ever and sends `name` to each client, when given; never returns.
func serve(_ descriptor: Int32, name: UInt8?) -> Never {
    while true {
        let client = accept(descriptor, nil, nil)
        guard client >= 0 else { continue }
        if var name { _ = send(client, &name, 1, Int32(MSG_NOSIGNAL)) }
        close(client)
    }
}
