/// What a TLS listener shows: swapped at any time, for the connections that come after.
import NIOCore
import NIOSSL
import Synchronization

package struct ServedCertificateError: Error, Equatable, CustomStringConvertible {
    package let description: String
}

package final class ServedCertificate: Sendable {
    private let current = Mutex<NIOSSLContext?>(nil)

    /// Until something is set, connections are closed.
    package init() {}

    var context: NIOSSLContext? { current.withLock { $0 } }

    /// `chain`: PEM, the server's own certificate first. `key`: PEM. What was served stays if they are no good.
    package func set(chain: [String], key: [UInt8]) throws(ServedCertificateError) {
        let certificates = try read("certificate") {
            try chain.flatMap { try NIOSSLCertificate.fromPEMBytes(Array($0.utf8)) }
        }
        guard !certificates.isEmpty else {
            throw ServedCertificateError(description: "there is no certificate to serve")
        }
        let key = try read("key") { try NIOSSLPrivateKey(bytes: key, format: .pem) }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: certificates.map { .certificate($0) }, privateKey: .privateKey(key))
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["h2", "http/1.1"]
        // Our farewell goes out and the socket is closed: whoever is turned out holds nothing by not answering it.
        configuration.shutdownTimeout = .zero
        let context = try read("pair of certificate and key") { [configuration] in
            try NIOSSLContext(configuration: configuration)
        }
        current.withLock { $0 = context }
    }
}

extension ServedCertificate: CustomReflectable, CustomStringConvertible {
    /// Nothing of the key gets into a log or a dump.
    package var customMirror: Mirror { Mirror(self, children: []) }
    package var description: String { "ServedCertificate" }
}

private func read<Value>(_ what: String, _ body: () throws -> Value) throws(ServedCertificateError) -> Value {
    do { return try body() } catch {
        throw ServedCertificateError(description: "the \(what) cannot be served: \(error)")
    }
}
