/// What answers the traffic, on one thread: TCP and UDP at any number of addresses, which come and go by command.
import Addressing
import Glibc

/// What a descriptor of the server is for. The first byte on a connection says which of the last two it is.
enum ServerRole: UInt8 {
    case commands, listener, datagrams, fresh
    case echo = 101
    /// Swallows everything, and sends one byte at the end.
    case sink = 115
}

struct TrafficServer {
    private var polled: [pollfd] = []
    private var roles: [ServerRole] = []
    private var open: [SocketAddress: [Int32]] = [:]
    private var buffer = [UInt8](repeating: 0, count: 256 << 10)

    init() { watch(STDIN_FILENO, as: .commands) }

    mutating func listen(at address: SocketAddress) throws {
        guard open[address] == nil else { return }
        let (stream, datagrams) = (try listeningSocket(at: address), try datagramSocket(at: address))
        watch(stream, as: .listener)
        watch(datagrams, as: .datagrams)
        open[address] = [stream, datagrams]
    }

    /// Ends with standard input, so that it does not outlive whoever started it.
    mutating func run() throws {
        while true {
            guard poll(&polled, nfds_t(polled.count), -1) > 0 else { continue }
            // From the end: what is closed or accepted meanwhile moves only what was looked at already.
            for index in polled.indices.reversed() where polled[index].revents != 0 {
                let descriptor = polled[index].fd
                switch roles[index] {
                case .commands: guard try obey() else { return }
                case .listener: acceptAll(descriptor)
                case .datagrams: answerDatagram(descriptor)
                case .fresh, .echo, .sink: answer(index)
                }
            }
        }
    }

    private mutating func watch(_ descriptor: Int32, as role: ServerRole) {
        polled.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
        roles.append(role)
    }

    private mutating func end(_ index: Int) {
        close(polled[index].fd)
        polled.remove(at: index)
        roles.remove(at: index)
    }

    /// Lines `listen ADDRESS` and `close ADDRESS`; false at the end.
    private mutating func obey() throws -> Bool {
        let count = read(STDIN_FILENO, &buffer, buffer.count)
        guard count > 0 else { return false }
        for line in String(decoding: buffer[..<count], as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2, let address = SocketAddress(String(words[1])) else {
                throw SocketFailure("command \(line)", EINVAL)
            }
            if words[0] == "listen" {
                try listen(at: address)
            } else {
                for descriptor in open.removeValue(forKey: address) ?? [] {
                    // Who got in before the end is served.
                    acceptAll(descriptor)
                    if let index = polled.firstIndex(where: { $0.fd == descriptor }) { end(index) }
                }
            }
        }
        return true
    }

    private mutating func acceptAll(_ listener: Int32) {
        while true {
            let client = accept(listener, nil, nil)
            guard client >= 0 else { return }
            watch(client, as: .fresh)
        }
    }

    private mutating func answer(_ index: Int) {
        let client = polled[index].fd
        let count = recv(client, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        guard count > 0 else {
            if count == 0, roles[index] == .sink { _ = send(client, buffer, 1, Int32(MSG_NOSIGNAL)) }
            if count == 0 || errno != EAGAIN { end(index) }
            return
        }
        if roles[index] == .fresh { roles[index] = buffer[0] == ServerRole.sink.rawValue ? .sink : .echo }
        if roles[index] == .echo { _ = send(client, buffer, count, Int32(MSG_NOSIGNAL)) }
    }

    private mutating func answerDatagram(_ descriptor: Int32) {
        var peer = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &peer) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { peer in
                let count = recvfrom(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT), peer, &length)
                if count > 0 { sendto(descriptor, buffer, count, 0, peer, length) }
            }
        }
    }
}

private func listeningSocket(at address: SocketAddress) throws -> Int32 {
    let descriptor = try listen(at: address)
    guard fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0 else { throw SocketFailure("fcntl") }
    return descriptor
}

private func datagramSocket(at address: SocketAddress) throws -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
    guard descriptor >= 0 else { throw SocketFailure("socket") }
    guard withAddress(address, { bind(descriptor, $0, $1) }) == 0 else { throw SocketFailure("bind \(address)") }
    return descriptor
}
