/// Objects from JSON in place, as API servers send them. Here and not beside the client that receives them, so that the
/// compiler sees decoders and reader together and can make one loop of them.
package import PullJSON

extension JSONReader: ValueReader {
    /// API servers write each object on one line.
    package var line: Int { 1 }

    package var kind: ValueKind {
        switch token {
        case .object: .object
        case .array: .array
        case .string: .string
        case .number: .number
        case .bool: .bool
        // Whoever reads or skips what is no value learns that it is none.
        case .null, .none: .null
        }
    }

    package mutating func readObject(
        _ body: (inout JSONReader, FieldKey) throws(DecodeError) -> Void
    ) throws(DecodeError) {
        try decoding { (reader) throws(JSONError) in try reader.enterObject() }
        while let key = try decoding({ (reader) throws(JSONError) in try reader.nextKey() }) {
            if key.isEscaped {
                let bytes = unescapedBytes(of: key)
                try body(&self, FieldKey(bytes.span))
            } else {
                try body(&self, FieldKey(rawBytes(of: key)))
            }
        }
    }
    package mutating func readArray(_ body: (inout JSONReader) throws(DecodeError) -> Void) throws(DecodeError) {
        try decoding { (reader) throws(JSONError) in try reader.enterArray() }
        while try decoding({ (reader) throws(JSONError) in try reader.nextElement() }) { try body(&self) }
    }
    package mutating func readString() throws(DecodeError) -> String {
        try decoding { (reader) throws(JSONError) in reader.text(of: try reader.readRawString()) }
    }
    package mutating func readInt() throws(DecodeError) -> Int64? {
        try decoding { (reader) throws(JSONError) in try reader.readInteger() }
    }
    package mutating func readBool() throws(DecodeError) -> Bool {
        try decoding { (reader) throws(JSONError) in try reader.readBoolean() }
    }
    package mutating func skip() throws(DecodeError) {
        try decoding { (reader) throws(JSONError) in try reader.skipValue() }
    }

    package mutating func readRaw(
        _ body: (inout JSONReader) throws(DecodeError) -> Void
    ) throws(DecodeError) -> [UInt8] {
        try copyingValue(body)
    }

    private mutating func decoding<Result>(
        _ body: (inout JSONReader) throws(JSONError) -> Result
    ) throws(DecodeError) -> Result {
        do throws(JSONError) { return try body(&self) } catch { throw DecodeError(error.description, line: 1) }
    }
}

extension ObjectDecoder {
    /// The same for the one format that comes in bulk: the compiler makes code for it of its own.
    package mutating func decode(_ kind: ObjectKind, json reader: inout JSONReader) throws(DecodeError) -> ClusterObject
    {
        try decode(kind, from: &reader)
    }
}
