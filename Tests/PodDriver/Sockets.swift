/// Sockets with our address type: the few calls everything else here is made of. Errors are errno values, because they
/// are results here, not accidents.
import Addressing
import Glibc
import Synchronization

func withSockaddr<R>(
    _ address: SocketAddress, asIPv6 isIPv6: Bool, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
) -> R {
    var storage = sockaddr_storage()
    let length = withUnsafeMutableBytes(of: &storage) { raw in
        let bytes = isIPv6 ? address.address.mappedBytes : address.address.networkBytes
        raw.storeBytes(of: sa_family_t(isIPv6 ? AF_INET6 : AF_INET), as: sa_family_t.self)
        raw.storeBytes(of: address.port.bigEndian, toByteOffset: 2, as: UInt16.self)
        // sockaddr_in has its address at offset 4; sockaddr_in6 after the flow label, at 8.
        raw.baseAddress?.advanced(by: isIPv6 ? 8 : 4).copyMemory(from: bytes, byteCount: bytes.count)
        return isIPv6 ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size
    }
    return withUnsafePointer(to: &storage) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
    }
}

/// Calls `body` (accept, recvfrom, getpeername, ...) with room for an address, and reads what it left there.
func readingSockaddr(
    _ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int
) -> (result: Int, address: SocketAddress?) {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = withUnsafeMutablePointer(to: &storage) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, &length) }
    }
    guard result >= 0 else { return (result, nil) }
    let address = withUnsafeBytes(of: &storage) { raw -> SocketAddress? in
        let family = Int32(raw.load(as: sa_family_t.self))
        guard family == AF_INET6 || family == AF_INET else { return nil }
        let bytes = UnsafeRawBufferPointer(rebasing: family == AF_INET6 ? raw[8..<24] : raw[4..<8])
        guard let ip = IPAddress(networkBytes: bytes) else { return nil }
        return SocketAddress(ip, UInt16(bigEndian: raw.load(fromByteOffset: 2, as: UInt16.self)))
    }
    return (result, address)
}

func setOption<T: BitwiseCopyable>(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: T) {
    var value = value
    setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<T>.size))
}

func newSocket(_ transport: TransportProtocol, isIPv6: Bool, _ isMultipath: Bool = false) -> Int32 {
    let mptcp: Int32 = 262
    let type = transport == .tcp ? SOCK_STREAM : SOCK_DGRAM
    return socket(isIPv6 ? AF_INET6 : AF_INET, Int32(type.rawValue | SOCK_CLOEXEC.rawValue), isMultipath ? mptcp : 0)
}

/// Where new ports come from, one after the other, so that it is long until one comes again.
enum FreshPorts {
    case udp, tcp, storm
    /// Apart from each other; a storm takes most.
    fileprivate var range: Range<UInt16> {
        switch self {
        case .udp: 33000..<60000
        case .tcp: 10000..<30000
        case .storm: 33000..<65000
        }
    }
}
private let lastPorts = Mutex<[FreshPorts: UInt16]>([:])

/// For a socket that is to be a flow of its own: with the port of an earlier one it would be that one's flow to the
/// kernel, and go where that went. UDP has no end that the kernel sees. Of TCP, an ACK that arrives behind the RST that
/// ended the connection makes the next one from that port the same flow, for ten seconds. Where the kernel chooses the
/// port, either happens once in some ten thousand flows.
func takeNewPort(_ descriptor: Int32, _ ports: FreshPorts, isIPv6: Bool) {
    for _ in 0..<100 {
        let port = lastPorts.withLock { last in
            let port = last[ports].map { $0 + 1 } ?? .random(in: ports.range)
            last[ports] = ports.range.contains(port) ? port : ports.range.lowerBound
            return last[ports] ?? port
        }
        let any = SocketAddress(isIPv6 ? IPAddress(high: 0, low: 0) : IPAddress(v4: 0), port)
        if withSockaddr(any, asIPv6: isIPv6, { bind(descriptor, $0, $1) }) == 0 { return }
    }
}

func monotonicNs() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// A thread to be joined by whoever started it.
func startThread(_ body: @escaping @Sendable () -> Void) -> pthread_t {
    var thread = pthread_t()
    let code = pthread_create(
        &thread, nil,
        { argument in
            guard let argument else { preconditionFailure("pthread_create lost its argument") }
            Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().body()
            return nil
        }, Unmanaged.passRetained(ThreadBody(body)).toOpaque())
    precondition(code == 0, "no thread to be had")
    return thread
}

private final class ThreadBody: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}
