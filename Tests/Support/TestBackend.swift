/// A backend whose every byte the test decides: blocking sockets, a thread a connection, no HTTP library.
package import Addressing
import Glibc
import Posix
import Synchronization

package final class TestBackend: Sendable {
    package struct Request: Sendable {
        /// Start line and header lines, as they came.
        package let head: String
        package let body: [UInt8]
        /// Counted from 1, over all connections.
        package let number: Int
        package let connection: Int

        package var target: String { String(head.split(separator: " ")[1]) }
        /// The values of a header, joined.
        package func header(_ name: String) -> String? {
            let lines = head.split(separator: "\r\n").dropFirst().filter {
                $0.lowercased().hasPrefix(name.lowercased() + ":")
            }
            guard !lines.isEmpty else { return nil }
            return lines.map { $0.dropFirst(name.count + 1).trimmed }.joined(separator: ",")
        }
    }
    package enum Action: Sendable {
        case reply(Int, headers: String = "", body: String = "")
        /// Exactly these bytes, and perhaps the end of the connection.
        case raw(String, closes: Bool = false)
        /// Nothing, ever.
        case silence
        /// Answers like this and then sends back what comes.
        case tunnel(String)
    }

    package let name: String
    package var address: SocketAddress { listener.address }
    private let listener: TestListener
    private let respond: @Sendable (Request) -> Action
    private struct State {
        var requests: [Request] = []
    }
    private let state = Mutex(State())

    package var requests: [Request] { state.withLock(\.requests) }
    package var connections: Int { listener.connections }

    /// Listens at `address`, port 0 for any, in the network namespace of the thread that calls.
    package init(
        _ name: String, at address: SocketAddress = SocketAddress(IPAddress(v4: 0x7f00_0001), 0),
        _ respond: @escaping @Sendable (Request) -> Action
    ) throws {
        self.name = name
        self.respond = respond
        listener = try TestListener(at: address)
        try listener.start { self.serve($0, $1) }
    }
    /// Says who it is and what it saw.
    package convenience init(
        _ name: String, at address: SocketAddress = SocketAddress(IPAddress(v4: 0x7f00_0001), 0)
    ) throws {
        try self.init(name, at: address) { .reply(200, headers: "x-backend: \(name)\r\n", body: $0.head) }
    }

    package func stop() { listener.stop() }
    package func hangUp() { listener.hangUp() }

    private func serve(_ descriptor: Int32, _ connection: Int) {
        var buffer: [UInt8] = []
        while let (head, body) = readMessage(descriptor, &buffer) {
            let request = state.withLock { state in
                let request = Request(
                    head: head, body: body, number: state.requests.count + 1, connection: connection)
                state.requests.append(request)
                return request
            }
            switch respond(request) {
            case .reply(let status, let headers, let text):
                let length = "content-length: \(text.utf8.count)\r\n\r\n"
                deliver(descriptor, "HTTP/1.1 \(status) Status\r\n" + headers + length)
                if !head.hasPrefix("HEAD") { deliver(descriptor, text) }
            case .raw(let text, let closes):
                deliver(descriptor, text)
                if closes { return }
            case .silence: break
            case .tunnel(let text):
                deliver(descriptor, text)
                var chunk = [UInt8](repeating: 0, count: 65536)
                while true {
                    let count = read(descriptor, &chunk, chunk.count)
                    guard count > 0 else { return }
                    deliver(descriptor, Array(chunk[..<count]))
                }
            }
        }
    }
}

// MARK: Sockets

/// A listener whose connections each have a thread of their own.
package final class TestListener: Sendable {
    package let address: SocketAddress
    private let descriptor: Int32
    private let open = Mutex((descriptors: [Int32](), count: 0))
    package var connections: Int { open.withLock(\.count) }

    /// In the network namespace of the thread that calls.
    package init(at address: SocketAddress) throws { (descriptor, self.address) = try listen(at: address) }

    /// `serve` gets a connection and its number, counted from 1; the connection is closed when it returns.
    package func start(_ serve: @escaping @Sendable (Int32, Int) -> Void) throws {
        try startThread {
            while true {
                let connection = accept(self.descriptor, nil, nil)
                guard connection >= 0 else { return }
                // Head and body are sent apart; the second must not wait for the first one's acknowledgement.
                var on: Int32 = 1
                setsockopt(connection, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
                let number = self.open.withLock { open in
                    open.descriptors.append(connection)
                    open.count += 1
                    return open.count
                }
                do {
                    try startThread {
                        serve(connection, number)
                        self.open.withLock { $0.descriptors.removeAll { $0 == connection } }
                        close(connection)
                    }
                } catch { return }
            }
        }
    }
    package func stop() {
        shutdown(descriptor, Int32(SHUT_RDWR))
        hangUp()
        close(descriptor)
    }
    /// Closes every connection, as a server does that has waited too long.
    package func hangUp() {
        for connection in open.withLock(\.descriptors) { shutdown(connection, Int32(SHUT_RDWR)) }
    }
}

/// A listener, and where it listens: port 0 becomes the one the system chose.
package func listen(at address: SocketAddress) throws -> (Int32, SocketAddress) {
    let family = address.address.isIPv4 ? AF_INET : AF_INET6
    let listener = socket(family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    let bound = SocketAddress(address.address, try bind(listener, to: address))
    guard Glibc.listen(listener, 128) == 0 else { throw TestFailure.errno("listen") }
    return (listener, bound)
}

/// Returns the port.
private func bind(_ descriptor: Int32, to address: SocketAddress) throws -> UInt16 {
    var storage = sockaddr_storage()
    let isIPv4 = address.address.isIPv4
    var length = socklen_t(isIPv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size)
    withUnsafeMutableBytes(of: &storage) { raw in
        raw.storeBytes(of: sa_family_t(isIPv4 ? AF_INET : AF_INET6), as: sa_family_t.self)
        raw.storeBytes(of: address.port.bigEndian, toByteOffset: 2, as: UInt16.self)
        let bytes = address.address.networkBytes
        raw.baseAddress?.advanced(by: isIPv4 ? 4 : 8).copyMemory(from: bytes, byteCount: bytes.count)
    }
    let port: UInt16? = withUnsafeMutablePointer(to: &storage) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
            guard Glibc.bind(descriptor, raw, length) == 0, getsockname(descriptor, raw, &length) == 0 else {
                return nil
            }
            return UnsafeRawPointer(raw).loadUnaligned(fromByteOffset: 2, as: UInt16.self).bigEndian
        }
    }
    guard let port else { throw TestFailure.errno("bind to \(address)") }
    return port
}

package func deliver(_ descriptor: Int32, _ text: String) { deliver(descriptor, Array(text.utf8)) }
package func deliver(_ descriptor: Int32, _ bytes: [UInt8]) {
    bytes.withUnsafeBytes { raw in
        var sent = 0
        while sent < raw.count {
            let count = send(descriptor, raw.baseAddress.map { $0 + sent }, raw.count - sent, Int32(MSG_NOSIGNAL))
            guard count > 0 else { return }
            sent += count
        }
    }
}

/// Head (without its empty line) and body of the next message; nil: the connection has ended.
package func readMessage(_ descriptor: Int32, _ buffer: inout [UInt8], hasBody: Bool = true) -> (String, [UInt8])? {
    let end = Array("\r\n\r\n".utf8)
    while buffer.firstRange(of: end) == nil { guard readMore(descriptor, &buffer) else { return nil } }
    guard let range = buffer.firstRange(of: end) else { return nil }
    let head = String(decoding: buffer[..<range.lowerBound], as: UTF8.self)
    buffer.removeFirst(range.upperBound)
    let lower = head.lowercased()
    let bodiless = ["1", "204", "304"].contains { lower.hasPrefix("http/1.1 " + $0) }
    guard hasBody, !bodiless else { return (head, []) }
    if lower.contains("transfer-encoding: chunked") {
        return readChunks(descriptor, &buffer).map { (head, $0) }
    }
    guard let at = lower.firstRange(of: "\r\ncontent-length:") else { return (head, []) }
    let length = Int(lower[at.upperBound...].prefix { !$0.isNewline }.trimmed) ?? 0
    while buffer.count < length { guard readMore(descriptor, &buffer) else { return nil } }
    let body = Array(buffer[..<length])
    buffer.removeFirst(length)
    return (head, body)
}

private func readChunks(_ descriptor: Int32, _ buffer: inout [UInt8]) -> [UInt8]? {
    var body: [UInt8] = []
    while true {
        while buffer.firstRange(of: [0x0d, 0x0a]) == nil { guard readMore(descriptor, &buffer) else { return nil } }
        guard let line = buffer.firstRange(of: [0x0d, 0x0a]),
            let size = Int(
                String(decoding: buffer[..<line.lowerBound].prefix { $0 != 0x3b }, as: UTF8.self), radix: 16)
        else { return nil }
        let end = line.upperBound + size + 2
        if size == 0 {
            // Trailers up to the empty line.
            buffer.removeFirst(line.lowerBound)
            let empty = Array("\r\n\r\n".utf8)
            while buffer.firstRange(of: empty) == nil { guard readMore(descriptor, &buffer) else { return nil } }
            if let range = buffer.firstRange(of: empty) { buffer.removeFirst(range.upperBound) }
            return body
        }
        while buffer.count < end { guard readMore(descriptor, &buffer) else { return nil } }
        body += buffer[line.upperBound..<(end - 2)]
        buffer.removeFirst(end)
    }
}

/// False: it has ended; `errno` is 0 if in order.
package func readMore(_ descriptor: Int32, _ buffer: inout [UInt8]) -> Bool {
    var chunk = [UInt8](repeating: 0, count: 65536)
    let count = read(descriptor, &chunk, chunk.count)
    guard count > 0 else {
        if count == 0 { errno = 0 }
        return false
    }
    buffer += chunk[..<count]
    return true
}
