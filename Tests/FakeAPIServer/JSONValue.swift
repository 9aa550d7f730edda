/// JSON as a value, for objects that the fake API server changes.
import PullJSON

indirect enum JSONValue: Equatable, Sendable {
    case object([String: JSONValue])
    case list([JSONValue])
    case text(String)
    case number(Int64)
    /// Not whole: as it was written.
    case real(String)
    case bool(Bool)
    case null

    /// nil: no JSON.
    init?(_ json: String) {
        let bytes = Array(json.utf8)
        var reader = JSONReader(bytes.span)
        guard let value = try? Self.read(&reader, bytes) else { return nil }
        self = value
    }

    private static func read(_ reader: inout JSONReader, _ bytes: [UInt8]) throws(JSONError) -> JSONValue {
        switch reader.token {
        case .object:
            var members: [String: JSONValue] = [:]
            try reader.enterObject()
            while let key = try reader.nextKey() {
                let name = reader.text(of: key)
                members[name] = try read(&reader, bytes)
            }
            return .object(members)
        case .array:
            var elements: [JSONValue] = []
            try reader.enterArray()
            while try reader.nextElement() { elements.append(try read(&reader, bytes)) }
            return .list(elements)
        case .string: return .text(try reader.readText())
        case .bool: return .bool(try reader.readBoolean())
        case .number:
            let start = reader.offset
            if let number = try reader.readInteger() { return .number(number) }
            let text = String(decoding: bytes[start..<reader.offset], as: UTF8.self)
            return .real(text.filter { !$0.isWhitespace })
        case .null, .none:
            try reader.readNull()
            return .null
        }
    }

    /// Members in the order of their names.
    var json: String {
        switch self {
        case .object(let members):
            "{"
                + members.sorted { $0.key < $1.key }.map { "\(Self.quoted($0.key)):\($0.value.json)" }
                .joined(separator: ",") + "}"
        case .list(let elements): "[" + elements.map(\.json).joined(separator: ",") + "]"
        case .text(let text): Self.quoted(text)
        case .number(let number): "\(number)"
        case .real(let text): text
        case .bool(let bool): "\(bool)"
        case .null: "null"
        }
    }
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            if scalar == "\"" || scalar == "\\" || scalar.value < 0x20 {
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            } else {
                result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    /// A member; setting one makes an object of anything.
    subscript(_ key: String) -> JSONValue? {
        get { if case .object(let members) = self { members[key] } else { nil } }
        set {
            var members = self.members
            members[key] = newValue
            self = .object(members)
        }
    }
    var members: [String: JSONValue] { if case .object(let members) = self { members } else { [:] } }
    var elements: [JSONValue] { if case .list(let elements) = self { elements } else { [] } }
    var string: String? { if case .text(let text) = self { text } else { nil } }
    var integer: Int64? { if case .number(let number) = self { number } else { nil } }

    /// RFC 7396.
    func merged(_ patch: JSONValue) -> JSONValue {
        guard case .object(let changes) = patch else { return patch }
        var result = JSONValue.object(members)
        for (key, change) in changes {
            result[key] = change == .null ? nil : (result[key] ?? .null).merged(change)
        }
        return result
    }
}
