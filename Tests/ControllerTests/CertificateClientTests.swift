// `heddle-controller request-certificate` asks an authority that is not ours, over a gRPC server that is not ours.
import AuthorityClient
import CertificateAuthority
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import Glibc
import Options
import Signing
import TestSupport
import Testing

@testable import Controller

/// Messages as they are.
private struct Raw: MessageSerializer, MessageDeserializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
    func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] {
        bytes.withUnsafeBytes { [UInt8]($0) }
    }
}

/// Signs for whoever has the token `good`.
private struct OtherAuthority: RegistrableRPCService {
    let authority: Authority
    /// Instead of the key in the request.
    var stranger: SigningKey?

    func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        let method = MethodDescriptor(
            fullyQualifiedService: "istio.v1.auth.IstioCertificateService", method: "CreateCertificate")
        router.registerHandler(forMethod: method, deserializer: Raw(), serializer: Raw()) { request, _ in
            let isGood = Array(request.metadata[stringValues: "authorization"]) == ["Bearer good"]
            var asked: [UInt8] = []
            for try await message in request.messages { asked = message }
            guard isGood else {
                return StreamingServerResponse(error: RPCError(code: .permissionDenied, message: "not you"))
            }
            let answer = try sign(asked)
            return StreamingServerResponse { writer in
                try await writer.write(answer)
                return [:]
            }
        }
    }

    private func sign(_ asked: [UInt8]) throws -> [UInt8] {
        let request = try CertificateRequest(asked.span)
        var csr = request.csr
        if let stranger { csr = try stranger.request(uris: []) }
        let identity = try #require(WorkloadIdentity(request.impersonated ?? "spiffe://cluster.local/ns/shop/sa/web"))
        let life = request.validity == 0 ? 86400 : request.validity
        let leaf = try authority.issue(
            SigningRequest(pem: csr), to: identity, notBefore: now, notAfter: now + life)
        return certificateResponse(chain: [leaf.pem] + authority.chain)
    }
}

private let now = Glibc.time(nil)

@Suite struct CertificateClientTests {
    @Test func aCertificateIsAskedForCheckedAndTold() async throws {
        let told = try await ask(token: "good\n")
        #expect(told.hasPrefix("spiffe://cluster.local/ns/shop/sa/web: serial "))
        #expect(told.contains(/, for 2[34] h, 2 certificates above it, and a root of \//))
    }

    @Test func whoIsRefusedIsToldWhy() async throws {
        #expect(await fault { try await ask(token: "bad") }.hasSuffix(" refuses with gRPC status 7: not you"))
    }

    @Test func aCertificateForAnotherKeyIsNone() async throws {
        #expect(
            await fault { try await ask(token: "good", stranger: .generate()) }.hasSuffix(
                " gives a certificate that is not for the key that was sent"))
    }

    /// Neither at the door nor above the certificate: what is believed is in the file.
    @Test func anAuthorityOfAnotherRootIsNotBelieved() async throws {
        #expect(await fault { try await ask(token: "good", believed: ["signer"]) }.contains(" cannot be asked: "))
        #expect(await fault { try await ask(token: "good", believed: ["door"]) }.contains(" that is of no use: "))
    }

    @Test func aFileThatIsNotThereIsNamed() async throws {
        var client = CertificateClient()
        (client.tokenFile, client.within) = ("/nowhere/token", 0)
        let settings = client
        #expect(await fault { try await settings.run() }.contains("/nowhere/token"))
    }

    /// What `helm test` runs.
    @Test func theChartsArgumentsAreOptions() throws {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        let chart = readText(root + "/deploy/helm/heddle/templates/tests/test.yaml")
        let lines = try #require(chart.firstRange(of: "- request-certificate\n").map { chart[$0.upperBound...] })
            .split(separator: "\n").map { $0.drop { $0 == " " } }.prefix { $0.hasPrefix("- --") || $0.hasPrefix("#") }
        let arguments = lines.filter { $0.hasPrefix("- ") }.map { String($0.dropFirst(2)) }
        let client = try CertificateClient.options.settings(arguments: arguments)
        #expect(arguments.count == 2 && client.authority.hasSuffix(".svc:15012"))
        for path in [client.tokenFile, client.rootsFile] {
            #expect(chart.contains("mountPath: \(path.split(separator: "/").dropLast().map { "/" + $0 }.joined()), "))
        }
    }

    private func fault(_ body: () async throws -> String) async -> String {
        do { return "no fault, but \(try await body())" } catch { return "\(error)" }
    }

    /// As the agent does for a pod of its node.
    @Test func aNodeAsksForWhoeverRunsThere() async throws {
        let told = try await ask(token: "good") { client in
            let api = try #require(WorkloadIdentity("spiffe://cluster.local/ns/shop/sa/api"))
            let key = SigningKey.generate()
            let call = AuthorityCall(client.authority)
            defer { call.end() }
            let roots = readText(client.rootsFile)
            let answer = try await call.certificate(
                csr: key.request(uris: [api.description]), token: "good", roots: roots, life: 1000, identity: api)
            let chain = try IssuedChain(answer, for: key, identity: api, roots: [roots], at: now)
            #expect(chain.facts.notAfter == now + 1000 && chain.certificates.count == 2)
            return chain.facts.uris.joined()
        }
        #expect(told == "spiffe://cluster.local/ns/shop/sa/api")
    }

    /// Asks an authority whose door has a root of its own. `believed`: the roots in the client's file.
    private func ask(
        token: String, stranger: SigningKey? = nil, believed: [String] = ["door", "signer"],
        by run: @escaping (CertificateClient) async throws -> String = { try await $0.run() }
    ) async throws -> String {
        let end = now + 30 * 86400
        var roots: [String: Authority] = [:]
        for name in ["door", "signer"] { roots[name] = try .root(name: name, notBefore: now, notAfter: end) }
        let (door, root) = (try #require(roots["door"]), try #require(roots["signer"]))
        let signer = try root.intermediate(name: "below", notBefore: now, notAfter: end)
        let key = SigningKey.generate()
        let leaf = try door.issueServer(names: ["localhost"], key: key, notBefore: now, notAfter: end)
        let transport = HTTP2ServerTransport.Posix(
            address: .ipv4(host: "127.0.0.1", port: 0),
            transportSecurity: .tls(
                certificateChain: [.bytes(Array(leaf.utf8), format: .pem)],
                privateKey: .bytes(key.pem, format: .pem)))
        let server = GRPCServer(
            transport: transport, services: [OtherAuthority(authority: signer, stranger: stranger)])
        let directory = try TemporaryDirectory()
        var client = CertificateClient()
        client.tokenFile = directory.path + "/token"
        client.rootsFile = directory.path + "/roots.pem"
        client.within = 0
        try writeText(token, to: client.tokenFile)
        try writeText(believed.compactMap { roots[$0]?.chain[0] }.joined(), to: client.rootsFile)
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.serve() }
            client.authority = "localhost:\(try await transport.listeningAddress.ipv4?.port ?? 0)"
            let result: Result<String, any Error>
            do { result = .success(try await run(client)) } catch { result = .failure(error) }
            server.beginGracefulShutdown()
            try await group.waitForAll()
            return try result.get()
        }
    }
}
