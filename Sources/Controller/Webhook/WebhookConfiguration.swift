/// What a ValidatingWebhookConfiguration says of us: which webhooks it has, and in which authorities API servers
/// believe when they call them.
import KubernetesClient
import PullJSON
import Signing

struct WebhookConfiguration: Equatable, Sendable {
    /// Names of the webhooks.
    private(set) var webhooks: [String] = []
    /// Certificate by certificate, as all of them say; empty if they do not agree.
    private(set) var bundle: [String] = []
    private(set) var resourceVersion = ""

    init(_ answer: APIAnswer) throws(JSONError) {
        resourceVersion = answer.resourceVersion
        var bundles: [String] = []
        var reader = JSONReader(answer.body.span)
        try reader.enterObject()
        while let key = try reader.nextKey() {
            guard reader.text(of: key) == "webhooks", reader.token == .array else {
                try reader.skipValue()
                continue
            }
            try reader.enterArray()
            while try reader.nextElement() {
                let (name, bundle) = try Self.webhook(&reader)
                webhooks.append(name)
                bundles.append(bundle)
            }
        }
        guard let first = bundles.first, bundles.allSatisfy({ $0 == first }) else { return }
        let text = String(decoding: decodeBase64(first) ?? [], as: UTF8.self)
        // What cannot be read is not what it should be, and is written anew.
        bundle = (try? certificates(inPEM: text).map(\.pem)) ?? []
    }

    private static func webhook(_ reader: inout JSONReader) throws(JSONError) -> (name: String, bundle: String) {
        var (name, bundle) = ("", "")
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch reader.text(of: key) {
            case "name" where reader.token == .string: name = try reader.readText()
            case "clientConfig" where reader.token == .object:
                try reader.enterObject()
                while let key = try reader.nextKey() {
                    if reader.text(of: key) == "caBundle", reader.token == .string {
                        bundle = try reader.readText()
                    } else {
                        try reader.skipValue()
                    }
                }
            default: try reader.skipValue()
            }
        }
        return (name, bundle)
    }
}
