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

func listen(at address: SocketAddress) throws -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw SocketFailure("socket") }
    var one: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, 4)
    guard withAddress(address, { bind(descriptor, $0, $1) }) == 0 else { throw SocketFailure("bind \(address)") }
    guard listen(descriptor, 4096) == 0 else { throw SocketFailure("listen \(address)") }
    return descriptor
}

/// Connects, and closes with RST so that no port stays in TIME_WAIT. Returns the nanoseconds that connect() took.
func timedConnect(to target: SocketAddress) throws -> UInt64 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw SocketFailure("socket") }
    defer { close(descriptor) }
    var abort = linger(l_onoff: 1, l_linger: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &abort, socklen_t(MemoryLayout<linger>.size))
    let start = monotonicNanoseconds()
    let result = withAddress(target) { connect(descriptor, $0, $1) }
    let took = monotonicNanoseconds() - start
    guard result == 0 else { throw SocketFailure("connect \(target)") }
    return took
}

/// Connects and reads the one byte by which the server tells who it is; nil when that fails.
func whoAnswers(at target: SocketAddress) -> UInt8? {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var abort = linger(l_onoff: 1, l_linger: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &abort, socklen_t(MemoryLayout<linger>.size))
    guard withAddress(target, { connect(descriptor, $0, $1) }) == 0 else { return nil }
    var byte: UInt8 = 0
    return read(descriptor, &byte, 1) == 1 ? byte : nil
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
