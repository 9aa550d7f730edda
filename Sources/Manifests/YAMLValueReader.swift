/// Lets the object decoders read a parsed YAML or JSON document.
package import Cluster
package import YAML

package struct YAMLValueReader: ValueReader {
    private var node: YAMLNode

    package init(_ node: YAMLNode) { self.node = node }

    package var line: Int { node.line }
    package var kind: ValueKind {
        switch node.kind {
        case .mapping: .object
        case .sequence: .array
        case .scalar:
            switch node.scalar {
            case .null?: .null
            case .bool?: .bool
            case .int?, .number?: .number
            case .string?, nil: .string
            }
        }
    }

    package mutating func readObject(
        _ body: (inout YAMLValueReader, FieldKey) throws(DecodeError) -> Void
    ) throws(DecodeError) {
        for (key, value) in node.entries {
            node = value
            let name = key.utf8
            try body(&self, FieldKey(name.span))
        }
    }
    package mutating func readArray(
        _ body: (inout YAMLValueReader) throws(DecodeError) -> Void
    ) throws(DecodeError) {
        for element in node.elements {
            node = element
            try body(&self)
        }
    }
    package mutating func readString() -> String { node.text }
    package mutating func readInt() -> Int64? {
        if case .int(let value)? = node.scalar { value } else { nil }
    }
    package mutating func readBool() -> Bool { node.scalar == .bool(true) }
    /// The document is parsed already: the next value is set before it is read.
    package mutating func skip() {}
}
