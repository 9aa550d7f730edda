// OpenSSL as the second opinion, and as the maker of what others send.
import CertificateAuthority
import Signing
import TestSupport
import Testing

let hasOpenSSL = (try? run(["openssl", "version"])) != nil
/// 2026-09-24, and a day.
let now = 1_790_208_000
let day = 86400

/// Files in a directory of their own, and openssl run in sight of them.
final class Shelf {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    func path(_ name: String) -> String { "\(directory.path)/\(name)" }

    @discardableResult
    func write(_ text: String, to name: String) throws -> String {
        try writeText(text, to: path(name))
        return path(name)
    }

    func read(_ name: String) -> String { readText(path(name)) }

    /// Words with a dot at their end stand for files of the shelf: `root.pem.`.
    @discardableResult
    func openssl(_ line: String, input: String = "") throws -> String {
        let words = line.split(separator: " ").map { $0.hasSuffix(".") ? path(String($0.dropLast())) : String($0) }
        return try run(["openssl"] + words, input: input)
    }

    /// At noon of the day after `now`; nil: good.
    func verify(_ leaf: String, above: [String], roots: [String], purpose: String = "sslserver") throws -> String? {
        try write(leaf, to: "verified.pem")
        try write(above.joined(), to: "above.pem")
        try write(roots.joined(), to: "roots.pem")
        let line = "verify -x509_strict -no-CApath -no-CAstore -attime \(now + day / 2) -purpose \(purpose) "
        do {
            try openssl(line + "-CAfile roots.pem. -untrusted above.pem. verified.pem.")
            return nil
        } catch {
            return "\(error)"
        }
    }

    /// As `openssl x509 -text` shows it, one line of each run of blanks.
    func text(_ certificate: String) throws -> String {
        try write(certificate, to: "shown.pem")
        let text = try openssl("x509 -noout -text -nameopt RFC2253 -in shown.pem.")
        return text.split(whereSeparator: { $0.isWhitespace }).joined(separator: " ")
    }

    /// A CSR for a key of its own, made with a section of extensions.
    func request(
        _ extensions: String = "subjectAltName=critical,URI:\(reader)", subject: String = "/",
        key: String = "ec -pkeyopt ec_paramgen_curve:P-256", configuration: String = ""
    ) throws -> String {
        let section = extensions.isEmpty ? "" : "req_extensions=asked\n[asked]\n\(extensions)\n"
        try write("[req]\ndistinguished_name=name\n\(section)[name]\n\(configuration)\n", to: "request.cnf")
        return try openssl(
            "req -new -nodes -newkey \(key) -keyout request.key. -subj \(subject) -config request.cnf."
        )
        .dropping(before: "-----BEGIN CERTIFICATE REQUEST")
    }
}

let reader = WorkloadIdentity("spiffe://cluster.local/ns/shop/sa/reader")?.description ?? ""

extension String {
    /// openssl shows how it looks for a key, before what it was asked for.
    func dropping(before start: String) -> String {
        firstRange(of: start).map { String(self[$0.lowerBound...]) } ?? self
    }
}
