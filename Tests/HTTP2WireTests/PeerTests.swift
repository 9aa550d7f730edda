/// The machine on real sockets, with programs that are not ours at the other end: nghttp2's clients and curl, and nginx
/// as a server.
import Addressing
import Glibc
import HTTP2Wire
import Posix
import Synchronization
import TestSupport
import Testing

/// Also where it is not installed, if a test that is left out must not pass for one that has run.
private func has(_ program: String) -> Bool {
    ownEnvironment()["HEDDLE_REQUIRE_KERNEL_TESTS"] != nil
        || ["/usr/bin/", "/usr/sbin/", "/usr/local/bin/"].contains { access($0 + program, X_OK) == 0 }
}
private func run(_ program: String, _ arguments: String...) throws -> String {
    let (output, end) = try Command(program, arguments, joinsErrors: true).run(limit: 1 << 24, patience: .seconds(120))
    let text = String(decoding: output, as: UTF8.self)
    #expect(end == .exited(0), "\(program) \(end): \(text.prefix(2000))")
    return text
}
private let size = 3 << 20
private let large = [UInt8](repeating: 0x61, count: size)

/// Answers each request when it has ended: `/big` with 3 MiB, all else with what came.
private final class PeerServer: Sendable {
    private let listener: TestListener
    private let said = Mutex([String]())
    /// Mistakes that the machine has found.
    var faults: [String] { said.withLock { $0 } }
    var url: String { "http://\(listener.address)" }

    init(_ change: (inout HTTP2Limits) -> Void = { _ in }) throws {
        listener = try TestListener(at: SocketAddress(IPAddress(v4: 0x7f00_0001), 0))
        var limits = HTTP2Limits()
        change(&limits)
        let chosen = limits
        try listener.start { descriptor, _ in
            var connection = PeerConnection(.server, limits: chosen)
            connection.run(descriptor)
            self.said.withLock { $0 += connection.faults }
        }
    }
    func stop() { listener.stop() }
}

/// Either end: reads a socket until it ends, or until nothing is left to be done.
private struct PeerConnection: ~Copyable {
    struct Message {
        var path = ""
        var isHEAD = false
        var status: UInt16 = 0
        var count = 0
        var trailers = 0
        var hasEnded = false
        var code: HTTP2Code?
    }
    var machine: HTTP2Machine
    var list = FieldList()
    var messages: [UInt32: Message] = [:]
    /// What is to be sent, and how much of it is out.
    var sending: [UInt32: (body: [UInt8], sent: Int)] = [:]
    var faults: [String] = []

    init(_ role: HTTP2Machine.Role, limits: HTTP2Limits = HTTP2Limits()) {
        machine = HTTP2Machine(role, limits: limits)
    }

    /// `isDone` is asked after each read.
    mutating func run(_ descriptor: Int32, until isDone: (borrowing PeerConnection) -> Bool = { _ in false }) {
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            deliver(descriptor, machine.output.bytes)
            machine.outputWasTaken()
            if isDone(self) { return }
            let count = read(descriptor, &chunk, chunk.count)
            guard count > 0 else { return }
            var at = 0
            while let event = chunk.withUnsafeBytes({ next(UnsafeRawBufferPointer(rebasing: $0[..<count]), &at) }) {
                take(event)
            }
        }
    }
    private mutating func next(_ input: UnsafeRawBufferPointer, _ at: inout Int) -> HTTP2Event? {
        machine.next(input, at: &at, into: &list)
    }

    private mutating func take(_ event: HTTP2Event) {
        switch event {
        case .head(let stream, let facts, let isLast):
            var message = Message(isHEAD: facts.isHEAD, status: facts.status)
            if let path = facts.path { message.path = list.valueText(list.fields[path]) }
            messages[stream] = message
            if isLast { ended(stream) }
        case .data(let stream, let range, let isLast):
            machine.consumed(stream, range.count)
            messages[stream]?.count += range.count
            if isLast { ended(stream) }
        case .trailers(let stream):
            messages[stream]?.trailers = list.fields.count
            ended(stream)
        case .writable(let stream): send(stream)
        case .reset(let stream, let code): messages[stream, default: Message()].code = code
        case .malformed(_, let fault), .failed(_, let fault), .violated(let fault): faults.append("\(fault)")
        case .interim, .settings, .goAway, .pong: break
        }
    }

    private mutating func ended(_ stream: UInt32) {
        messages[stream]?.hasEnded = true
        guard machine.role == .server, let message = messages[stream] else { return }
        let body =
            message.path == "/big" ? large : Array("\(message.count) bytes \(message.trailers) trailers".utf8)
        var answer = FieldList()
        answer.append(.status, "200")
        answer.append(.contentLength, "\(body.count)")
        answer.append(.server, "test")
        do throws(SendRefusal) { try machine.sendHead(stream, answer, isLast: message.isHEAD) } catch {
            return faults.append("\(error)")
        }
        guard !message.isHEAD else { return }
        sending[stream] = (body, 0)
        send(stream)
    }
    mutating func send(_ stream: UInt32) {
        guard let (body, start) = sending[stream] else { return }
        let sent: Result<Int, SendRefusal> = body.withUnsafeBytes { bytes in
            let rest = UnsafeRawBufferPointer(rebasing: bytes[start...])
            return Result { () throws(SendRefusal) in try machine.sendData(stream, rest, isLast: true) }
        }
        // The peer may have ended it.
        let end = start + ((try? sent.get()) ?? body.count)
        sending[stream] = end < body.count ? (body, end) : nil
    }
}

@Suite struct PeerTests {
    @Test(.enabled(if: has("h2load"), "h2load of nghttp2-client")) func load() throws {
        let server = try PeerServer()
        defer { server.stop() }
        let small = try run("h2load", "-n", "1000", "-c", "4", "-m", "50", server.url + "/small")
        #expect(small.contains("1000 succeeded, 0 failed, 0 errored, 0 timeout"), "\(small)")
        let big = try run("h2load", "-n", "8", "-c", "2", "-m", "4", server.url + "/big")
        #expect(big.contains("8 succeeded, 0 failed, 0 errored, 0 timeout"), "\(big)")
        // Windows of 16 KiB, and what many streams send at once.
        let directory = try TemporaryDirectory()
        try writeText(String(repeating: "x", count: 1 << 20), to: directory.path + "/body")
        let uploads = try run(
            "h2load", "-n", "8", "-c", "2", "-m", "4", "-w", "14", "-W", "14", "-d", directory.path + "/body",
            server.url + "/")
        #expect(uploads.contains("8 succeeded, 0 failed, 0 errored, 0 timeout"), "\(uploads)")
        #expect(server.faults == [])
    }

    @Test(.enabled(if: has("nghttp"), "nghttp of nghttp2-client")) func frames() throws {
        let server = try PeerServer()
        defer { server.stop() }
        let directory = try TemporaryDirectory()
        try writeText(String(repeating: "x", count: 200_000), to: directory.path + "/body")
        for options in [
            [], ["--continuation"], ["-b", "200"], ["-w", "10"], ["--no-dep"], ["--trailer", "x-a: b"],
            ["--expect-continue"], ["--header-table-size=0"], ["--encoder-header-table-size=0"],
            ["--header-table-size=100000"],
        ] {
            let isTold = options.first == "--trailer"
            let arguments = options + ["-d", directory.path + "/body", server.url + "/"]
            let (output, end) = try Command("nghttp", arguments, joinsErrors: true)
                .run(limit: 1 << 20, patience: .seconds(60))
            #expect(end == .exited(0))
            let text = String(decoding: output, as: UTF8.self)
            #expect(text == "200000 bytes \(isTold ? 1 : 0) trailers", "\(options)")
        }
        // Many on one connection, with small windows.
        let text = try run("nghttp", "-n", "-s", "-m", "30", "-w", "12", "-W", "12", server.url + "/big")
        #expect(text.components(of: " 200 ") == 30, "\(text)")
        #expect(server.faults == [])
    }

    @Test(.enabled(if: has("curl"), "curl")) func curl() throws {
        let server = try PeerServer()
        defer { server.stop() }
        let url = server.url
        #expect(try run("curl", "-s", "--http2-prior-knowledge", url + "/small") == "0 bytes 0 trailers")
        #expect(try run("curl", "-s", "--http2-prior-knowledge", url + "/big").utf8.count == size)
        let head = try run("curl", "-s", "--http2-prior-knowledge", "-I", url + "/big")
        #expect(head.contains("HTTP/2 200") && head.contains("content-length: \(size)"))
        let directory = try TemporaryDirectory()
        try writeText(String(repeating: "x", count: size), to: directory.path + "/body")
        let upload = try run("curl", "-s", "--http2-prior-knowledge", "-T", directory.path + "/body", url + "/up")
        #expect(upload == "\(size) bytes 0 trailers")
        let long = "x-long: " + String(repeating: "~", count: 50_000)
        #expect(try run("curl", "-s", "--http2-prior-knowledge", "-H", long, url + "/") == "0 bytes 0 trailers")
        #expect(server.faults == [])
    }

    @Test(.enabled(if: has("nginx"), "nginx")) func nginx() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path
        try writeText(String(repeating: "x", count: size), to: path + "/big")
        try writeText("small", to: path + "/small")
        chmod(path, 0o755)
        try writeText(
            """
            daemon off; master_process off; pid \(path)/pid; error_log \(path)/errors;
            events {}
            http {
                access_log off; client_body_temp_path \(path)/t; proxy_temp_path \(path)/t; fastcgi_temp_path \(path)/t;
                uwsgi_temp_path \(path)/t; scgi_temp_path \(path)/t; keepalive_requests 1000000;
                server { listen unix:\(path)/socket http2; root \(path); }
            }
            """, to: path + "/conf")
        let nginx = try ChildProcess(["nginx", "-e", path + "/errors", "-c", path + "/conf"], descriptors: [0, 1, 2])
        defer { nginx.signal(SIGTERM) }
        // It makes the name before it listens.
        var descriptor: Int32 = -1
        try eventually("nginx takes a connection") {
            descriptor = try UnixSocket.connect(path + "/socket")
            return true
        }
        defer { close(descriptor) }

        var client = PeerConnection(.client)
        // Its SETTINGS first, which say how many streams it takes.
        client.run(descriptor) { $0.machine.peer.maxConcurrentStreams != nil }
        for round in 0..<40 {
            var streams: [UInt32] = []
            for name in ["/small", "/big", "/nothing", "/small"] {
                streams.append(try client.open(name, "GET", isLast: true))
            }
            streams.append(try client.open("/big", "HEAD", isLast: true))
            // It answers before it has read the body, and may end the stream then.
            let upload = try client.open("/small", "POST", isLast: false)
            client.sending[upload] = ([UInt8](repeating: 1, count: round * 10_000), 0)
            client.send(upload)
            streams.append(upload)
            client.run(descriptor) { connection in streams.allSatisfy { connection.messages[$0]?.hasEnded ?? false } }
            let answers = streams.map { client.messages[$0] ?? .init() }
            #expect(answers.map(\.status) == [200, 200, 404, 200, 200, 405])
            #expect(answers.map(\.count)[..<2] == [5, size] && answers[4].count == 0)
            client.machine.reset(upload, .noError)
        }
        #expect(client.faults == [])
        let (count, memory) = (client.machine.streamCount, client.machine.memory)
        #expect(count == 0 && memory < 128 << 10)
    }
}

extension PeerConnection {
    fileprivate mutating func open(_ path: String, _ method: String, isLast: Bool) throws(SendRefusal) -> UInt32 {
        var request = FieldList()
        request.append(.method, method)
        request.append(.scheme, "http")
        request.append(.path, path)
        request.append(.authority, "localhost")
        request.append("user-agent", "heddle-test")
        return try machine.open(request, isLast: isLast)
    }
}

extension String {
    fileprivate func components(of part: String) -> Int { ranges(of: part).count }
}
