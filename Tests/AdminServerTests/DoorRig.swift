/// A TLS listener that tells what it was asked, certificates of its own, and clients that are not ours.
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import AdminServer

/// A certificate for `localhost` that answers for itself, by OpenSSL.
struct DoorCertificate {
    let folder: TemporaryDirectory
    var path: String { folder.path + "/cert.pem" }
    var chain: [String] { [readText(path)] }
    var key: [UInt8] { Array(readText(folder.path + "/key.pem").utf8) }

    init() throws {
        folder = try TemporaryDirectory()
        _ = try run([
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", folder.path + "/key.pem",
            "-out", path,
        ])
    }
}

final class Door: Sendable {
    private struct State {
        var port: UInt16 = 0
        var shed: [ShedReason] = []
        var asked = 0
        var held: [@Sendable (HTTPResponse) -> Void] = []
    }
    private let state = Mutex(State())
    let certificate = ServedCertificate()
    var port: UInt16 { state.withLock { $0.port } }
    var shed: [ShedReason] { state.withLock { $0.shed } }
    var asked: Int { state.withLock { $0.asked } }

    /// What `/held` waits for.
    func release() {
        for reply in state.withLock({ state in
            defer { state.held = [] }
            return state.held
        }) {
            reply(.text("released"))
        }
    }

    /// With `certificate`; nil: none is served yet.
    static func with(
        _ certificate: DoorCertificate?, _ limits: ConnectionLimits = ConnectionLimits(),
        _ body: (Door) async throws -> Void
    ) async throws {
        let (loop, door) = (ServerLoop(), Door())
        if let certificate { try door.certificate.set(chain: certificate.chain, key: certificate.key) }
        let listener = HTTPListener(
            .tcp(host: "127.0.0.1", port: 0), on: loop, limits: limits, tls: door.certificate,
            shed: { reason in door.state.withLock { $0.shed.append(reason) } },
            responder: { request, reply in
                door.state.withLock { $0.asked += 1 }
                if request.path == "/held" { return door.state.withLock { $0.held.append(reply) } }
                let text = "\(request.method) \(request.path) \(request.header("x-name") ?? "-") \(request.peer) "
                reply(.text(text + String(decoding: request.body, as: UTF8.self)))
            })
        try await listener.startNow()
        let port = try #require(listener.boundPort)
        door.state.withLock { $0.port = port }
        try await body(door)
        listener.stop()
        await loop.shutdown()
    }

    func curl(_ certificate: DoorCertificate, _ options: String..., path: String = "/") throws -> String {
        try run(
            [
                "curl", "-sS", "--max-time", "20", "--cacert", certificate.path, "--connect-to",
                "localhost:\(port):127.0.0.1:\(port)",
            ] + options + ["https://localhost:\(port)\(path)"])
    }
}
