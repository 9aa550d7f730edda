/// Writers to the fake API server.
import FakeAPIServer
import TestSupport

@testable import KubernetesClient

func access(to server: FakeAPIServer, token: String? = nil) throws -> ClusterAccess {
    guard let address = ServerAddress(server.url) else { throw TestFailure("no URL: \(server.url)") }
    var access = ClusterAccess(server: address)
    if let token { access.login = .token(token) }
    return access
}

func withWriter(
    to server: FakeAPIServer, named program: String = "test", token: String? = nil,
    _ body: (ObjectWriter) async throws -> Void
) async throws {
    let writer = ObjectWriter(access: try access(to: server, token: token), program: program, timing: .quick)
    defer { writer.shutdown() }
    try await body(writer)
}

func withWriter(_ body: (FakeAPIServer, ObjectWriter) async throws -> Void) async throws {
    try await withServer { server in try await withWriter(to: server) { try await body(server, $0) } }
}

/// Stops the server whatever happens.
func withServer(_ body: (FakeAPIServer) async throws -> Void) async throws {
    let server = try await FakeAPIServer()
    let result: Result<Void, any Error>
    do { result = .success(try await body(server)) } catch { result = .failure(error) }
    await server.stop()
    try result.get()
}

extension WriteOutcome {
    var version: String? { if case .written(let version) = self { version } else { nil } }
}
