/// Asks the API server whose token it is that came with a request. Every request is reviewed anew: an answer that is
/// kept would let a pod that is gone go on for a while. The token is in no text that this makes.
import CertificateAuthority
import KubernetesClient
import PullJSON

struct TokenReviewer: Sendable {
    static let longestToken = 16 * 1024
    private static let patience = Duration.seconds(5)

    /// Its own, not the one that renews the Lease: who asks for certificates must not hold that up.
    let writer: ObjectWriter
    let audiences: Set<String>

    func review(_ token: String) async throws(Refusal) -> TokenFacts {
        guard isToken(token) else { throw Refusal(.notAuthenticated, "what came as a bearer token is none") }
        let audiences = audiences.sorted().map { "\"\($0)\"" }.joined(separator: ",")
        let write = ObjectWrite(
            .create,
            ObjectAddress(group: "authentication.k8s.io", plural: "tokenreviews", kind: "TokenReview", name: ""),
            fields: #""spec":{"token":"\#(token)","audiences":[\#(audiences)]}"#)
        switch await writer.answer(to: write, within: Self.patience) {
        case .failure(let failure):
            throw Refusal(.notReady, "the token was not reviewed: \(failure.sentence)")
        case .success(let answer):
            guard let facts = try? TokenFacts(review: answer.body) else {
                throw Refusal(.notReady, "the API server's answer to a TokenReview cannot be read")
            }
            return facts
        }
    }
}

/// RFC 6750: nothing that would mean something in JSON.
private func isToken(_ text: String) -> Bool {
    (1...TokenReviewer.longestToken).contains(text.utf8.count)
        && text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            default: "-._~+/=".utf8.contains(byte)
            }
        }
}

extension TokenFacts {
    /// From a TokenReview with its status; without one nobody is authenticated.
    init(review body: [UInt8]) throws(JSONError) {
        self.init(isAuthenticated: false)
        var reader = JSONReader(body.span)
        try reader.enterObject()
        while let key = try reader.nextKey() {
            guard reader.text(of: key) == "status", reader.token == .object else {
                try reader.skipValue()
                continue
            }
            try readStatus(&reader)
        }
        try reader.finish()
    }

    private mutating func readStatus(_ reader: inout JSONReader) throws(JSONError) {
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch reader.text(of: key) {
            case "authenticated" where reader.token == .bool: isAuthenticated = try reader.readBoolean()
            case "audiences" where reader.token == .array: audiences = Set(try texts(&reader))
            case "error" where reader.token == .string: problem = try reader.readText()
            case "user" where reader.token == .object: try readUser(&reader)
            default: try reader.skipValue()
            }
        }
    }

    private mutating func readUser(_ reader: inout JSONReader) throws(JSONError) {
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch reader.text(of: key) {
            case "username" where reader.token == .string: userName = try reader.readText()
            case "extra" where reader.token == .object: try readExtra(&reader)
            default: try reader.skipValue()
            }
        }
    }

    private mutating func readExtra(_ reader: inout JSONReader) throws(JSONError) {
        try reader.enterObject()
        while let key = try reader.nextKey() {
            let name = reader.text(of: key)
            guard name.hasPrefix("authentication.kubernetes.io/"), reader.token == .array else {
                try reader.skipValue()
                continue
            }
            // Two values are as good as none: which of them would it be?
            let values = try texts(&reader)
            let value = values.count == 1 ? values.first : nil
            switch name.dropFirst("authentication.kubernetes.io/".count) {
            case "pod-name": podName = value
            case "pod-uid": podUID = value
            case "node-name": nodeName = value
            default: break
            }
        }
    }
}

private func texts(_ reader: inout JSONReader) throws(JSONError) -> [String] {
    var result: [String] = []
    try reader.enterArray()
    while try reader.nextElement() {
        if reader.token == .string { result.append(try reader.readText()) } else { try reader.skipValue() }
    }
    return result
}
