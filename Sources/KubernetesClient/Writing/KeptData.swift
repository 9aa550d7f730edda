/// What a Secret or a ConfigMap keeps, by key. Values show themselves to nobody: not in logs, not in dumps of what
/// holds them.
import PullJSON

package struct KeptData: Sendable, Equatable {
    package var data: [String: [UInt8]]
    package let resourceVersion: String

    package init(data: [String: [UInt8]], resourceVersion: String) {
        (self.data, self.resourceVersion) = (data, resourceVersion)
    }
}

extension KeptData: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "\(data.count) keys" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension ObjectWriter {
    /// Of a Secret, or of a ConfigMap's texts.
    package func keptData(_ object: ObjectAddress) async -> Result<KeptData, APIFailure> {
        await read(object).flatMap { KeptData.from($0, object) }
    }

    /// Changes these keys and leaves the others; nil: takes the key away.
    package func setData(
        _ data: [String: [UInt8]?], of object: ObjectAddress, resourceVersion: String?, fence: (any WriteFence)?
    ) async -> WriteOutcome {
        let members = data.sorted { $0.key < $1.key }.map { key, value in
            let text = value.map { object.isText ? String(decoding: $0, as: UTF8.self) : encodeBase64($0) }
            return "\(quoted(key)):\(text.map(quoted) ?? "null")"
        }
        let fields = #""data":{\#(members.joined(separator: ","))}"#
        return await write(ObjectWrite(.patch, object, resourceVersion: resourceVersion, fields: fields), fence: fence)
    }
}

extension KeptData {
    static func from(_ answer: APIAnswer, _ object: ObjectAddress) -> Result<KeptData, APIFailure> {
        let read = try? read(answer.body, isText: object.isText)
        // Whatever else answers in the server's place must not pass for an object that keeps nothing.
        guard let read, read.kind == object.kind, !answer.resourceVersion.isEmpty else {
            return .failure(.trouble("the API server sent what is no \(object.kind), or one that cannot be read"))
        }
        return .success(KeptData(data: read.data, resourceVersion: answer.resourceVersion))
    }

    private static func read(
        _ body: [UInt8], isText: Bool
    ) throws(JSONError) -> (kind: String, data: [String: [UInt8]]) {
        var kind = ""
        var data: [String: [UInt8]] = [:]
        var reader = JSONReader(body.span)
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch reader.text(of: key) {
            case "kind" where reader.token == .string: kind = try reader.readText()
            case "data" where reader.token == .object:
                try reader.enterObject()
                while let key = try reader.nextKey() {
                    let (name, text) = (reader.text(of: key), try reader.readText())
                    // What is no base64 an API server does not take.
                    data[name] = isText ? Array(text.utf8) : decodeBase64(text) ?? []
                }
            default: try reader.skipValue()
            }
        }
        try reader.finish()
        return (kind, data)
    }
}

extension ObjectAddress {
    /// A Secret's values are base64.
    fileprivate var isText: Bool { kind == "ConfigMap" }
}
