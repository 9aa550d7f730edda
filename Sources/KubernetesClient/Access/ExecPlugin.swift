/// A program that hands out credentials, as cloud providers ship them (client.authentication.k8s.io).
import Posix
import PullJSON

struct ExecPlugin: Equatable, Sendable {
    static let versions = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"]

    var apiVersion: String
    /// Without a slash it is looked for in PATH.
    var command: String
    var arguments: [String] = []
    var environment: [String: String] = [:]
    /// The server's URL, if the plugin wants to know it.
    var server: String?

    /// One that takes longer hangs.
    var patience = Duration.seconds(60)

    /// Runs the program and reads what it prints. Blocks.
    func run() throws(AccessError) -> ExecCredential {
        func failure(_ how: String) -> AccessError {
            AccessError("the credential plugin \(command) \(how); run it by hand to see what it lacks")
        }
        let (output, end): ([UInt8], Command.End)
        do throws(PosixError) {
            (output, end) = try Command(command, arguments, environment: processEnvironment)
                .run(limit: 1 << 20, patience: patience)
        } catch {
            throw failure("cannot be started: \(error.reason)")
        }
        guard end == .exited(0) else { throw failure(end.description) }
        do throws(JSONError) {
            return try ExecCredential(output.span)
        } catch {
            throw AccessError("what the credential plugin \(command) printed is \(error)")
        }
    }

    private var processEnvironment: [String: String] {
        var result = ownEnvironment()
        let cluster = server.map { #","cluster":{"server":"\#($0)"}"# } ?? ""
        result["KUBERNETES_EXEC_INFO"] =
            #"{"apiVersion":"\#(apiVersion)","kind":"ExecCredential","spec":{"interactive":false\#(cluster)}}"#
        return result.merging(environment) { $1 }
    }
}

/// `status` of an ExecCredential.
struct ExecCredential: Equatable, Sendable {
    var token: String?
    var clientCertificate: [UInt8]?
    var clientKey: [UInt8]?
    /// RFC 3339; nil: until the server refuses it.
    var expiration: String?

    init(_ bytes: Span<UInt8>) throws(JSONError) {
        var reader = JSONReader(bytes)
        try reader.enterObject()
        while let key = try reader.nextKey() {
            guard reader.text(of: key) == "status", reader.token == .object else {
                try reader.skipValue()
                continue
            }
            try readStatus(&reader)
        }
        try reader.finish()
        guard token != nil || clientCertificate != nil && clientKey != nil else {
            throw JSONError("no token and no client certificate", at: reader.offset)
        }
    }

    private mutating func readStatus(_ reader: inout JSONReader) throws(JSONError) {
        try reader.enterObject()
        while let key = try reader.nextKey() {
            guard reader.token == .string else {
                try reader.skipValue()
                continue
            }
            let name = reader.text(of: key)
            let text = try reader.readText()
            guard !text.isEmpty else { continue }
            switch name {
            case "token": token = text
            case "clientCertificateData": clientCertificate = Array(text.utf8)
            case "clientKeyData": clientKey = Array(text.utf8)
            case "expirationTimestamp": expiration = text
            default: break
            }
        }
    }
}
