/// Istio's CreateCertificate as its clients call it: gRPC, here by an HTTP client that does not show trailers. A
/// refusal has its status at the head of the answer, and an answer with a whole message in it is none.
import AsyncHTTPClient
package import CertificateAuthority
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Posix

package struct AuthorityCall: Sendable {
    private let authority: String
    private let client = HTTPClient(
        eventLoopGroup: .singletonMultiThreadedEventLoopGroup,
        configuration: HTTPClient.Configuration(redirectConfiguration: .disallow))

    package init(_ authority: String) { self.authority = authority }

    /// Does not wait: nobody needs the connections any more.
    package func end() { client.shutdown { _ in } }

    /// The leaf first. `life`: in seconds; 0: whatever the authority gives. `identity`: another's than the token's, for
    /// the proxy of a node.
    package func certificate(
        csr: String, token: String, roots: String, life: Int = 0, identity: WorkloadIdentity? = nil
    ) async throws(CertificateFault) -> [String] {
        var request = HTTPClientRequest(
            url: "https://\(authority)/istio.v1.auth.IstioCertificateService/CreateCertificate")
        request.method = .POST
        request.headers.add(name: "content-type", value: "application/grpc")
        request.headers.add(name: "te", value: "trailers")
        request.headers.add(name: "authorization", value: "Bearer \(token)")
        let message = certificateRequest(csr: csr, life: life, impersonating: identity)
        var body = ByteBuffer(bytes: [0])
        body.writeInteger(UInt32(message.count))
        body.writeBytes(message)
        request.body = .bytes(body)
        var tls = TLSConfiguration.makeClientConfiguration()
        let answer: (HTTPClientResponse, [UInt8])
        do {
            tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(Array(roots.utf8)))
            request.tlsConfiguration = tls
            let response = try await client.execute(request, timeout: .seconds(10))
            answer = (response, Array(try await response.body.collect(upTo: Self.longestAnswer).readableBytesView))
        } catch {
            throw CertificateFault("\(authority) cannot be asked: \(error)")
        }
        return try chain(answer.0, answer.1)
    }

    private static let longestAnswer = CertificateRequest.maximumBytes + prefixBytes
    /// Of a message: whether it is compressed, and its length.
    private static let prefixBytes = 5

    private func chain(_ response: HTTPClientResponse, _ body: [UInt8]) throws(CertificateFault) -> [String] {
        guard response.status == .ok else {
            throw CertificateFault("\(authority) is no authority: it answers with status \(response.status.code)")
        }
        if let code = response.headers.first(name: "grpc-status"), code != "0" {
            let message = response.headers.first(name: "grpc-message") ?? ""
            throw CertificateFault("\(authority) refuses with gRPC status \(code): \(message)")
        }
        var rest = ByteBuffer(bytes: body)
        guard rest.readInteger(as: UInt8.self) == 0, let count = rest.readInteger(as: UInt32.self),
            Int(count) == rest.readableBytes,
            let chain = certificateChain(inResponse: Array(rest.readableBytesView).span), !chain.isEmpty
        else { throw CertificateFault("\(authority) gives no certificate, and does not say why") }
        return chain
    }
}

/// A token or roots, to be read each time: kubelet puts both there, and changes them. `remedy` ends the sentence.
package func credential(in path: String, remedy: String = "") throws(CertificateFault) -> String {
    do throws(PosixError) {
        let text = String(decoding: try readFile(path, limit: 1 << 20), as: UTF8.self)
        return text.last == "\n" ? String(text.dropLast()) : text
    } catch {
        throw CertificateFault("\(error)\(remedy)")
    }
}

/// Why there is no certificate.
package struct CertificateFault: Error, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
