// What a client of HTTP/2 cannot do: ask for more than it may, hold what it has, make work that is no request.
import Glibc
import TestSupport
import Testing

@testable import AdminServer

@Suite struct HTTP2LimitTests {
    @Test(arguments: [1, 40]) func aBodyHasItsBound(streams: Int) async throws {
        var limits = ConnectionLimits()
        limits.requestBytes = 10_000
        try await connected(limits) { door, client in
            // One larger than it may be, or many that are together.
            for number in 0..<streams {
                client.send(.headers, stream: UInt32(2 * number + 1), Self.request)
                let data = [UInt8](repeating: 0x78, count: streams == 1 ? 12_000 : 4_000)
                client.send(.data, stream: UInt32(2 * number + 1), data)
            }
            try eventually("it is refused") { door.shed.contains(.largeRequest) }
            #expect(door.asked == 0)
        }
    }

    @Test func moreAtOnceThanAllowedAreNotServed() async throws {
        var limits = ConnectionLimits()
        limits.streams = 4
        try await connected(limits) { door, client in
            for number in 0..<4 { client.send(.headers, flags: 5, stream: UInt32(2 * number + 1), Self.held) }
            try eventually("four wait") { door.asked == 4 }
            client.send(.headers, flags: 5, stream: 9, Self.held)
            try eventually("the fifth is refused or the connection ends") {
                client.has(.reset) { $0.stream == 9 } || client.has(.goAway) { _ in true }
            }
            #expect(door.asked == 4)
            door.release()
        }
    }

    /// Resetting does not end what was begun: no more is begun than without it.
    @Test func resetsGiveNoFurtherRequests() async throws {
        var limits = ConnectionLimits()
        limits.streams = 4
        try await connected(limits) { door, client in
            for number in 0..<2000 {
                client.send(.headers, flags: 5, stream: UInt32(2 * number + 1), Self.held)
                client.send(.reset, stream: UInt32(2 * number + 1), [0, 0, 0, 8])
            }
            try eventually("it is turned out") { door.shed.contains(.frameFlood) }
            #expect((1...4).contains(door.asked), "\(door.asked)")
            door.release()
        }
    }

    @Test func aRequestHasToComeToItsEnd() async throws {
        var limits = ConnectionLimits()
        limits.request = .milliseconds(200)
        try await connected(limits) { door, client in
            client.send(.headers, stream: 1, Self.request)
            try eventually("it is ended") { client.has(.reset) { $0.stream == 1 } && door.shed == [.slowRequest] }
            // The connection is not: the next one is answered.
            client.send(.headers, flags: 5, stream: 3, Self.request)
            try eventually("it is answered") { client.has(.data) { $0.stream == 3 } }
        }
    }

    @Test func whoSaysNothingIsSentAway() async throws {
        var limits = ConnectionLimits()
        (limits.idle, limits.answer) = (.milliseconds(100), .milliseconds(100))
        try await connected(limits) { door, client in
            try eventually("it is told to go") { client.has(.goAway) { _ in true } }
            try eventually("it is closed") { !client.isRunning }
            #expect(door.shed == [])
        }
    }

    /// A connection's age costs no request.
    @Test func anOldConnectionEndsInOrder() async throws {
        var limits = ConnectionLimits()
        limits.age = .milliseconds(100)
        try await connected(limits) { door, client in
            client.send(.headers, flags: 5, stream: 1, Self.held)
            try eventually("it is told to go") { client.has(.goAway) { _ in true } }
            client.send(.headers, flags: 5, stream: 3, Self.request)
            try eventually("the late one is refused as not looked at, which clients send again elsewhere") {
                client.has(.reset) { $0.stream == 3 && $0.payload == [0, 0, 0, 7] }
            }
            let ping = try #require(client.frames.first { $0.type == Frame.ping.rawValue && $0.flags == 0 })
            client.send(.ping, flags: 1, stream: 0, ping.payload)
            door.release()
            try eventually("the early one is answered") { client.has(.data) { $0.stream == 1 } }
            try eventually("it is closed") { !client.isRunning }
            #expect(door.shed == [])
        }
    }

    @Test func headersHaveTheirBound() async throws {
        try await connected(ConnectionLimits()) { door, client in
            let value = [UInt8](repeating: 0x78, count: 16_000)
            let field: [UInt8] = [0, 1, 0x78, 0x7f] + [0x81, 0x7c] + value
            client.send(.headers, flags: 0, stream: 1, Array((Self.request + field).prefix(16_000)))
            for _ in 0..<64 { client.send(.continuation, flags: 0, stream: 1, value) }
            try eventually("it ends") { !client.isRunning || door.shed.contains(.largeRequest) }
            #expect(door.asked == 0)
        }
    }

    // MARK: Frames

    /// `POST https://a/`, and the same for `/held`, by RFC 7541's static table.
    private static let request: [UInt8] = [0x83, 0x87, 0x84, 0x41, 1, 0x61]
    private static let held: [UInt8] = [0x83, 0x87, 0x04, 5] + Array("/held".utf8) + [0x01, 1, 0x61]

    private func connected(_ limits: ConnectionLimits, _ body: (Door, FrameClient) throws -> Void) async throws {
        try await Door.with(try DoorCertificate(), limits) { door in
            let client = try FrameClient(door.port)
            defer { client.end() }
            try body(door, client)
        }
    }
}

enum Frame: UInt8 {
    case data = 0
    case headers = 1
    case reset = 3
    case settings = 4
    case ping = 6
    case goAway = 7
    case continuation = 9
}

/// Frames as they are, through OpenSSL's client.
private final class FrameClient {
    struct Received {
        let type: UInt8
        let flags: UInt8
        let stream: UInt32
        let payload: [UInt8]
    }
    private let process: ChildProcess
    private let socket: Int32
    private var unread: [UInt8] = []
    private(set) var frames: [Received] = []

    init(_ port: UInt16) throws {
        var ends: [Int32] = [0, 0]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw TestFailure.errno("socketpair")
        }
        let nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC)
        defer { for descriptor in [ends[1], nowhere] { close(descriptor) } }
        socket = ends[0]
        process = try ChildProcess(
            ["openssl", "s_client", "-quiet", "-alpn", "h2", "-connect", "127.0.0.1:\(port)"],
            descriptors: [ends[1], ends[1], nowhere])
        write(Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8))
        send(.settings, stream: 0, [])
    }

    func send(_ type: Frame, flags: UInt8 = 0, stream: UInt32, _ payload: [UInt8]) {
        // A head without the flag that it ends here would wait for its continuation.
        let flags = type == .headers && payload.count < 1000 ? flags | 4 : flags
        let number = (0..<4).reversed().map { UInt8(truncatingIfNeeded: stream >> (8 * $0)) }
        let length = (0..<3).reversed().map { UInt8(truncatingIfNeeded: payload.count >> (8 * $0)) }
        write(length + [type.rawValue, flags] + number + payload)
    }

    /// The client may have ended.
    private func write(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }

    func has(_ type: Frame, _ condition: (Received) -> Bool) -> Bool {
        var chunk = [UInt8](repeating: 0, count: 65536)
        while case let count = recv(socket, &chunk, chunk.count, Int32(MSG_DONTWAIT)), count > 0 {
            unread += chunk[..<count]
        }
        while unread.count >= 9 {
            let length = unread[..<3].reduce(0) { $0 << 8 | Int($1) }
            guard unread.count >= 9 + length else { break }
            let stream = unread[5..<9].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0x7fff_ffff
            frames.append(
                Received(type: unread[3], flags: unread[4], stream: stream, payload: Array(unread[9..<9 + length])))
            unread.removeFirst(9 + length)
        }
        return frames.contains { $0.type == type.rawValue && condition($0) }
    }

    var isRunning: Bool { process.isRunning }

    func end() {
        close(socket)
        process.signal(SIGKILL)
        _ = try? process.wait()
    }
}
