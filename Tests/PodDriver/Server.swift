/// The servers of a pod: every listener says who it is and whom it saw, `NAME|CLIENT|PORT`, once when a TCP connection
/// arrives and once for whatever is received. One epoll thread serves them all. A listener named `@dialled` gives as
/// its name what SO_ORIGINAL_DST says of the connection, as a proxy would ask.
import Addressing
import CLinux
import Glibc
import Synchronization

final class Server: Sendable {
    private struct Listener {
        let descriptor: Int32
        let transport: TransportProtocol
        let name: String
    }
    private struct Key: Hashable {
        let transport: TransportProtocol
        let address: SocketAddress
    }
    private let epoll: Int32
    private let listeners = Mutex<[Key: Listener]>([:])

    init() throws {
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epoll >= 0 else { throw Failure.errno("make an epoll descriptor") }
        _ = startThread { self.loop() }
    }

    /// Returns the address with the port that was taken.
    func listen(_ transport: TransportProtocol, _ address: SocketAddress, name: String, isMultipath: Bool) throws
        -> SocketAddress
    {
        let isIPv6 = !address.address.isIPv4
        let descriptor = newSocket(transport, isIPv6: isIPv6, isMultipath)
        guard descriptor >= 0 else { throw Failure.errno("make a \(transport) socket") }
        setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, Int32(1))
        if isIPv6 { setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, Int32(1)) }
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        guard withSockaddr(address, asIPv6: isIPv6, { bind(descriptor, $0, $1) }) == 0,
            transport == .udp || Glibc.listen(descriptor, 4096) == 0
        else {
            let failure = Failure.errno("listen on \(transport) \(address)")
            close(descriptor)
            throw failure
        }
        let bound = readingSockaddr { Int(getsockname(descriptor, $0, $1)) }.address ?? address
        let listener = Listener(descriptor: descriptor, transport: transport, name: name)
        listeners.withLock { $0[Key(transport: transport, address: bound)] = listener }
        watch(descriptor)
        return bound
    }

    func unlisten(_ transport: TransportProtocol, _ address: SocketAddress) {
        let listener = listeners.withLock { $0.removeValue(forKey: Key(transport: transport, address: address)) }
        if let listener { close(listener.descriptor) }
    }

    private func watch(_ descriptor: Int32) {
        var event = epoll_event()
        event.events = EPOLLIN.rawValue
        event.data.fd = descriptor
        epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event)
    }

    private func loop() {
        var events = [epoll_event](repeating: epoll_event(), count: 256)
        // Greetings of the open TCP connections; the loop's own, so no lock.
        var connections: [Int32: [UInt8]] = [:]
        while true {
            let count = epoll_wait(epoll, &events, Int32(events.count), -1)
            for index in 0..<max(0, Int(count)) {
                let descriptor = events[index].data.fd
                if let greeting = connections[descriptor] {
                    if !answer(descriptor, greeting) {
                        connections[descriptor] = nil
                        close(descriptor)
                    }
                } else if let listener = listeners.withLock({ $0.values.first { $0.descriptor == descriptor } }) {
                    if listener.transport == .tcp { accept(listener, &connections) } else { reply(listener) }
                }
            }
        }
    }

    private func greeting(_ listener: Listener, _ client: SocketAddress?, connection: Int32? = nil) -> [UInt8] {
        let (address, port) = client.map { ("\($0.address)", $0.port) } ?? ("?", 0)
        let dialled = connection.map { dialledAddress($0, isIPv6: client.map { !$0.address.isIPv4 } ?? false) }
        let name = listener.name == "@dialled" ? dialled?.map(\.description) ?? "nothing" : listener.name
        return Array("\(name)|\(address)|\(port)\n".utf8)
    }

    private func dialledAddress(_ descriptor: Int32, isIPv6: Bool) -> SocketAddress? {
        let originalDestination: Int32 = 80
        let level = Int32(isIPv6 ? IPPROTO_IPV6 : IPPROTO_IP)
        let answer = readingSockaddr { Int(getsockopt(descriptor, level, originalDestination, $0, $1)) }
        return answer.result == 0 ? answer.address : nil
    }

    private func accept(_ listener: Listener, _ connections: inout [Int32: [UInt8]]) {
        while true {
            let (result, client) = readingSockaddr { Int(Glibc.accept(listener.descriptor, $0, $1)) }
            guard result >= 0 else { return }
            let descriptor = Int32(result)
            let text = greeting(listener, client, connection: descriptor)
            _ = send(descriptor, text, text.count, doNotWait)
            connections[descriptor] = text
            watch(descriptor)
        }
    }

    /// false: the connection is over.
    private func answer(_ descriptor: Int32, _ greeting: [UInt8]) -> Bool {
        let count = withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) {
            recv(descriptor, $0.baseAddress, $0.count, doNotWait)
        }
        if count < 0 { return errno == EAGAIN }
        return count > 0 && send(descriptor, greeting, greeting.count, doNotWait) > 0
    }

    private func reply(_ listener: Listener) {
        withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) { buffer in
            while true {
                let (count, client) = readingSockaddr {
                    recvfrom(listener.descriptor, buffer.baseAddress, buffer.count, 0, $0, $1)
                }
                guard count >= 0, let client else { return }
                let text = greeting(listener, client)
                // An IPv6 listener is IPv6 only, so the family of the client is that of the socket.
                _ = withSockaddr(client, asIPv6: !client.address.isIPv4) {
                    sendto(listener.descriptor, text, text.count, doNotWait, $0, $1)
                }
            }
        }
    }
}

private let doNotWait = Int32(MSG_NOSIGNAL | MSG_DONTWAIT)
