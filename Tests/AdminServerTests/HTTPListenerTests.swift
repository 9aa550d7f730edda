// The small HTTP server over real sockets, on loopback and on a Unix socket.
import Glibc
import Posix
import Testing

@testable import AdminServer

@Suite struct HTTPListenerTests {
    private static func echo(_ request: HTTPRequest, _ reply: @escaping @Sendable (HTTPResponse) -> Void) {
        let query = request.query.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")
        reply(.text("\(request.method) \(request.path) [\(query)]"))
    }

    @Test func answersOverTCP() async throws {
        let loop = ServerLoop()
        let listener = HTTPListener(.tcp(host: "127.0.0.1", port: 0), on: loop, responder: Self.echo)
        try await listener.startNow()
        let port = try #require(listener.boundPort)
        let answer = try exchange(
            try connectTCP(port), "GET /a%20b?x=1&y=%2F HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
        #expect(answer.hasSuffix("\r\n\r\nGET /a b [x=1,y=/]"))
        listener.stop()
        await loop.shutdown()
    }

    @Test func keepsTheConnectionForTheNextRequest() async throws {
        let loop = ServerLoop()
        let listener = HTTPListener(.tcp(host: "127.0.0.1", port: 0), on: loop, responder: Self.echo)
        try await listener.startNow()
        let port = try #require(listener.boundPort)
        let two = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        let answer = try exchange(try connectTCP(port), two)
        #expect(answer.contains("GET /1 []") && answer.hasSuffix("GET /2 []"))
        listener.stop()
        await loop.shutdown()
    }

    @Test func answersOverAUnixSocketAndReplacesAStaleOne() async throws {
        let path = "/tmp/heddle-test-\(getpid()).sock"
        defer { unlink(path) }
        for _ in 1...2 {
            let loop = ServerLoop()
            let listener = HTTPListener(.unix(try UnixSocket.bind(path, mode: 0o600)), on: loop, responder: Self.echo)
            try await listener.startNow()
            #expect(try exchange(try connectUnix(path), "GET / HTTP/1.0\r\n\r\n").hasSuffix("GET / []"))
            listener.stop()
            await loop.shutdown()
        }
    }

    @Test func listensThoughNobodyHoldsIt() async throws {
        let loop = ServerLoop()
        let probe = HTTPListener(.tcp(host: "127.0.0.1", port: 0), on: loop, responder: Self.echo)
        try await probe.startNow()
        let port = try #require(probe.boundPort)
        let reports = Reports()
        HTTPListener(
            .tcp(host: "127.0.0.1", port: port), on: loop, longestPause: .milliseconds(5),
            report: { reports.add($0) }, responder: Self.echo
        ).start()
        await reports.next { $0 != nil }
        probe.stop()
        await reports.next { $0 == nil }
        #expect(try exchange(try connectTCP(port), "GET / HTTP/1.0\r\n\r\n").hasSuffix("GET / []"))
        await loop.shutdown()
    }

    @Test func triesAgainUntilTheAddressIsFree() async throws {
        let loop = ServerLoop()
        let holder = HTTPListener(.tcp(host: "127.0.0.1", port: 0), on: loop, responder: Self.echo)
        try await holder.startNow()
        let port = try #require(holder.boundPort)
        let reports = Reports()
        let late = HTTPListener(
            .tcp(host: "127.0.0.1", port: port), on: loop, longestPause: .milliseconds(5),
            report: { reports.add($0) }, responder: Self.echo)
        late.start()
        await reports.next { $0?.code == EADDRINUSE }
        holder.stop()
        await reports.next { $0 == nil }
        #expect(late.boundPort == port)
        late.stop()
        await loop.shutdown()
    }
}

/// What a listener reported, in order.
private final class Reports: Sendable {
    private let stream: AsyncStream<ListenFailure?>
    private let continuation: AsyncStream<ListenFailure?>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream() }
    func add(_ report: ListenFailure?) { continuation.yield(report) }
    /// Waits for a report like that.
    func next(where matches: (ListenFailure?) -> Bool) async {
        for await report in stream where matches(report) { return }
    }
}

private struct SocketError: Error {
    let operation: String
    let code = errno
}

/// `from`: the last byte of the address on loopback that it comes from.
func connectTCP(_ port: UInt16, from: UInt32 = 1) throws -> Int32 {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return try connect(AF_INET, &address, MemoryLayout<sockaddr_in>.size, from: from)
}

func connectUnix(_ path: String) throws -> Int32 { try UnixSocket.connect(path) }

private func connect(_ family: Int32, _ address: inout sockaddr_in, _ size: Int, from: UInt32) throws -> Int32 {
    let descriptor = socket(family, Int32(SOCK_STREAM.rawValue), 0)
    var source = sockaddr_in()
    source.sin_family = sa_family_t(family)
    source.sin_addr.s_addr = (0x7f00_0000 + from).bigEndian
    let bound = withUnsafePointer(to: &source) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.bind(descriptor, $0, socklen_t(size)) }
    }
    guard bound == 0 else { throw SocketError(operation: "bind") }
    let result = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, socklen_t(size)) }
    }
    guard result == 0 else { throw SocketError(operation: "connect") }
    return descriptor
}

/// Sends the text and reads until the server closes.
func exchange(_ descriptor: Int32, _ request: String) throws -> String {
    defer { close(descriptor) }
    guard write(descriptor, request, request.utf8.count) == request.utf8.count else {
        throw SocketError(operation: "write")
    }
    var answer: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = read(descriptor, &chunk, chunk.count)
        guard count >= 0 else { throw SocketError(operation: "read") }
        if count == 0 { return String(decoding: answer, as: UTF8.self) }
        answer += chunk[..<count]
    }
}

/// Waits until the other side has ended the connection.
func isClosed(_ descriptor: Int32) -> Bool {
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
        let count = read(descriptor, &chunk, chunk.count)
        if count == 0 || (count < 0 && errno == ECONNRESET) { return true }
        if count < 0 { return false }
    }
}
