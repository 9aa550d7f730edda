/// Who asks for certificates in tests: pods and tokens of an API server, requests as clients send them.
import FakeAPIServer
import Glibc
import Signing
import TestSupport

/// What the chart renders.
let renderedChart = readText(
    #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined() + "/deploy/heddle.yaml")

extension FakeAPIServer {
    /// On node-1 pods of shop/web and shop/other and the node's proxy, on node-2 one of shop/far; and their tokens.
    func knowTheCast() {
        know(.serviceAccount("kube-system", "heddle-controller"), by: "controller")
        put(
            .pods, pod("heddle-1", namespace: "kube-system", on: "node-1", as: "heddle"),
            pod("web-0", namespace: "shop", on: "node-1", as: "web"),
            pod("other-0", namespace: "shop", on: "node-1", as: "other"),
            pod("far-0", namespace: "shop", on: "node-2", as: "far"))
        know("agent.token", .serviceAccount("kube-system", "heddle", pod: "heddle-1", node: "node-1"))
        know("web.token", .serviceAccount("shop", "web", pod: "web-0", node: "node-1"))
        know("gone.token", .serviceAccount("shop", "web", pod: "gone-0", node: "node-1"))
        know("unbound.token", .serviceAccount("shop", "web"))
        know("person", FakeUser("jane"))
        know("api.token", .serviceAccount("shop", "web", pod: "web-0"), for: FakeUser.server)
        var expired = FakeUser.serviceAccount("shop", "web", pod: "web-0")
        expired.isExpired = true
        know("expired.token", expired)
    }
    private func know(_ token: String, _ user: FakeUser, for audience: String = "istio-ca") {
        var user = user
        user.audiences = [audience]
        know(user, by: token)
    }
}

/// `IstioCertificateRequest` in bytes.
func certificateRequest(csr: String, validity: Int = 0, impersonating identity: String? = nil) -> [UInt8] {
    var message = field(1, Array(csr.utf8))
    if validity > 0 { message += [2 << 3] + varint(validity) }
    if let identity {
        let value = field(3, Array(identity.utf8))
        message += field(3, field(1, field(1, Array("ImpersonatedIdentity".utf8)) + field(2, value)))
    }
    return message
}

/// The chain of an `IstioCertificateResponse`.
func chain(in response: [UInt8]) -> [String] {
    var rest = response[...]
    var result: [String] = []
    while rest.popFirst() == 1 << 3 | 2 {
        var (count, shift) = (0, 0)
        while let byte = rest.popFirst() {
            count |= Int(byte & 0x7f) << shift
            shift += 7
            if byte < 0x80 { break }
        }
        result.append(String(decoding: rest.prefix(count), as: UTF8.self))
        rest = rest.dropFirst(count)
    }
    return result
}

private func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] { [number << 3 | 2] + varint(bytes.count) + bytes }

private func varint(_ value: Int) -> [UInt8] {
    var (rest, result) = (value, [UInt8]())
    while rest >= 0x80 {
        result.append(UInt8(rest & 0x7f) | 0x80)
        rest >>= 7
    }
    return result + [UInt8(rest)]
}

/// A CSR by OpenSSL with these extensions: `subjectAltName=URI:…`.
func opensslRequest(_ extensions: [String]) throws -> String {
    let folder = try TemporaryDirectory()
    let configuration = "[req]\ndistinguished_name=dn\n[dn]\n"
    try writeText(configuration, to: folder.path + "/config")
    _ = try run(
        [
            "openssl", "req", "-new", "-config", folder.path + "/config", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder.path + "/key.pem", "-out", folder.path + "/csr.pem",
            "-subj", "/",
        ] + extensions.flatMap { ["-addext", $0] })
    return readText(folder.path + "/csr.pem")
}

/// As `eventually`, with no thread held up on which what is waited for may have to run.
func soon(_ what: String, _ condition: () throws -> Bool) async throws(TestFailure) {
    try await eventually(what) { () async throws -> Bool in try condition() }
}
