/// One exchange with a server: open a socket, be told who answers. What `flow`, `storm`, `open` and `hold` repeat.
import Addressing
import Glibc

struct Target: Sendable {
    enum Kind: String, Sendable {
        case tcp
        case udp
        case udpConnected = "udp-connected"
    }
    let kind: Kind
    let destination: SocketAddress
    let source: SocketAddress?
    /// Use an IPv6 socket and the IPv4-mapped form of an IPv4 destination.
    let isMapped: Bool
    /// `source` need not be an address of this machine.
    let claimsSource: Bool
    /// Of TCP: MPTCP.
    let isMultipath: Bool
    let timeoutMs: Int

    var isIPv6: Bool { isMapped || !destination.address.isIPv4 }
}

/// A socket after an exchange, or after what prevented it. Whoever has it must `end()` it.
struct Attempt: Sendable {
    var descriptor: Int32
    /// errno; 0: `count` bytes of answer are in the buffer.
    var error: Int32 = 0
    var count = 0
    /// Where recvfrom says the answer came from (UDP).
    var sender: SocketAddress?

    func end() {
        if descriptor >= 0 { close(descriptor) }
    }

    var peer: SocketAddress? { readingSockaddr { Int(getpeername(descriptor, $0, $1)) }.address }
    var own: SocketAddress? { readingSockaddr { Int(getsockname(descriptor, $0, $1)) }.address }
}

extension Target {
    /// No answer is longer.
    static let answerSize = 256

    /// `isOneOfMany`: in a storm.
    func attempt(_ buffer: UnsafeMutableRawBufferPointer, isOneOfMany: Bool = false) -> Attempt {
        var attempt = Attempt(descriptor: newSocket(kind == .tcp ? .tcp : .udp, isIPv6: isIPv6, isMultipath))
        attempt.error = attempt.descriptor < 0 ? errno : prepare(attempt.descriptor, isOneOfMany)
        if attempt.error == 0, kind != .udp { attempt.error = connect(attempt.descriptor) }
        if attempt.error == 0, kind != .tcp { attempt.error = ask(attempt.descriptor) }
        if attempt.error == 0 { receive(&attempt, buffer) }
        return attempt
    }

    private func prepare(_ descriptor: Int32, _ isOneOfMany: Bool) -> Int32 {
        let timeout = timeval(tv_sec: timeoutMs / 1000, tv_usec: timeoutMs % 1000 * 1000)
        setOption(descriptor, SOL_SOCKET, SO_RCVTIMEO, timeout)
        setOption(descriptor, SOL_SOCKET, SO_SNDTIMEO, timeout)
        if kind == .tcp {
            // Closing resets: no TIME_WAIT, so a storm does not run out of ports.
            setOption(descriptor, SOL_SOCKET, SO_LINGER, linger(l_onoff: 1, l_linger: 0))
        } else if kind == .udp {
            // Otherwise an unconnected socket never hears of "port unreachable".
            setOption(descriptor, Int32(IPPROTO_IP), IP_RECVERR, Int32(1))
            if isIPv6 { setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_RECVERR, Int32(1)) }
        }
        guard let source else {
            takeNewPort(descriptor, kind != .tcp ? .udp : isOneOfMany ? .storm : .tcp, isIPv6: isIPv6)
            return 0
        }
        setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, Int32(1))
        if claimsSource {
            let (ipFreebind, ipv6Freebind): (Int32, Int32) = (15, 78)
            setOption(descriptor, Int32(IPPROTO_IP), ipFreebind, Int32(1))
            if isIPv6 { setOption(descriptor, Int32(IPPROTO_IPV6), ipv6Freebind, Int32(1)) }
        }
        return withSockaddr(source, asIPv6: isIPv6) { bind(descriptor, $0, $1) } == 0 ? 0 : errno
    }

    private func connect(_ descriptor: Int32) -> Int32 {
        // Without blocking, as most programs do it: a connect that blocks holds its socket while the answer to its SYN
        // comes in over a veth pair, and learns of a refusal by ICMP only from the next SYN, a second later.
        let flags = fcntl(descriptor, F_GETFL)
        _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
        defer { _ = fcntl(descriptor, F_SETFL, flags) }
        guard withSockaddr(destination, asIPv6: isIPv6, { Glibc.connect(descriptor, $0, $1) }) != 0 else { return 0 }
        guard errno == EINPROGRESS else { return errno }
        var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard poll(&waiting, 1, Int32(timeoutMs)) == 1 else { return ETIMEDOUT }
        var error: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length)
        return error
    }

    /// Sends a question on a socket of this target; returns errno or 0.
    func ask(_ descriptor: Int32) -> Int32 {
        let flags = Int32(MSG_NOSIGNAL)
        let sent =
            kind == .udp
            ? withSockaddr(destination, asIPv6: isIPv6) { sendto(descriptor, "?\n", 2, flags, $0, $1) }
            : send(descriptor, "?\n", 2, flags)
        return sent == 2 ? 0 : errno
    }

    func receive(_ attempt: inout Attempt, _ buffer: UnsafeMutableRawBufferPointer) {
        attempt.count = 0
        repeat {
            let room = UnsafeMutableRawBufferPointer(rebasing: buffer[attempt.count...])
            let count: Int
            if kind != .tcp {
                let descriptor = attempt.descriptor
                let answer = readingSockaddr { recvfrom(descriptor, room.baseAddress, room.count, 0, $0, $1) }
                (count, attempt.sender) = (answer.result, answer.address)
            } else {
                count = recv(attempt.descriptor, room.baseAddress, room.count, 0)
            }
            guard count > 0 else {
                attempt.error = count == 0 ? ECONNRESET : errno == EAGAIN ? ETIMEDOUT : errno
                return
            }
            attempt.count += count
        } while kind == .tcp && buffer[attempt.count - 1] != UInt8(ascii: "\n") && attempt.count < buffer.count
    }
}

/// An answer taken apart: `NAME|CLIENT|PORT`.
struct Greeting {
    let name: String
    let client: String

    init(_ attempt: Attempt, _ buffer: UnsafeMutableRawBufferPointer) {
        let fields = String(decoding: buffer[..<attempt.count], as: UTF8.self).split(separator: "|")
        name = fields.first.map(String.init) ?? "?"
        client = fields.count > 1 ? String(fields[1]) : "?"
    }
}

/// `count` exchanges one after the other, summed up in lines: `hit NAME N`, `client ADDRESS N` (whom the server saw),
/// `peer ADDRESS:PORT N` (whom getpeername or recvfrom names), `errno CODE N`.
func flow(_ target: Target, count: Int) -> [String] {
    var tally: [String: Int] = [:]
    withUnsafeTemporaryAllocation(byteCount: Target.answerSize, alignment: 8) { buffer in
        for _ in 0..<count {
            let attempt = target.attempt(buffer)
            defer { attempt.end() }
            guard attempt.error == 0 else {
                tally["errno \(attempt.error)", default: 0] += 1
                continue
            }
            let greeting = Greeting(attempt, buffer)
            let peer = target.kind == .udp ? attempt.sender : attempt.peer
            tally["hit \(greeting.name)", default: 0] += 1
            tally["client \(greeting.client)", default: 0] += 1
            if let peer { tally["peer \(peer)", default: 0] += 1 }
        }
    }
    return tally.map { "\($0.key) \($0.value)" }.sorted()
}
