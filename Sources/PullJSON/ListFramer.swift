/// Cuts the answer to a list request into its objects while it arrives, so that a page of five hundred large objects is
/// never in memory as a whole. It only finds where things begin and end; `JSONReader` judges each piece.

package struct ListFramer {
    package enum Piece {
        /// One of `items`.
        case item
        /// The list's own `metadata`: resourceVersion and continue.
        case metadata
    }
    package enum Malformed: Error {
        case tooLong
        case notAList
    }

    private enum Place {
        /// Before the `{` of the list.
        case start
        /// Before a key of the list or its `}`.
        case beforeKey
        case inKey
        case beforeColon
        /// Before the value of `key`.
        case beforeValue
        /// Inside the value of `key`, or of an item.
        case inValue
        /// Before an item or the `]`.
        case beforeItem
        /// Before a comma or the bracket that closes.
        case afterItem
        case afterValue
        case end
    }

    private var place = Place.start
    private var key: [UInt8] = []
    private var inItems = false
    private var hasComma = false
    // Inside a value: open brackets, whether in a string, whether behind a backslash there.
    private var depth = 0
    private var inString = false
    private var isEscaped = false
    private var piece: [UInt8] = []
    let limit: Int

    package init(limit: Int = 8 << 20) { self.limit = limit }

    /// Whether the whole list has come.
    package var isComplete: Bool { place == .end }

    /// Calls `body` with each piece that is complete now, in place where it lies within `chunk`.
    package mutating func push(_ chunk: Span<UInt8>, _ body: (Piece, Span<UInt8>) throws -> Void) throws {
        var at = 0
        while at < chunk.count {
            guard place == .inValue else {
                try step(chunk[unchecked: at], &at)
                continue
            }
            let start = at
            let isComplete = scanValue(chunk, &at)
            guard piece.count + at - start <= limit else { throw Malformed.tooLong }
            let kind: Piece? = inItems ? .item : key.elementsEqual("metadata".utf8) ? .metadata : nil
            if let kind {
                if isComplete, piece.isEmpty {
                    try body(kind, chunk.extracting(start..<at))
                } else {
                    chunk.extracting(start..<at).withUnsafeBufferPointer { piece.append(contentsOf: $0) }
                    if isComplete { try body(kind, piece.span) }
                }
            }
            if isComplete {
                piece.removeAll(keepingCapacity: piece.capacity <= 1 << 16)
                place = inItems ? .afterItem : .afterValue
            }
        }
    }

    /// One byte outside of values. Leaves the first byte of a value to `scanValue`.
    private mutating func step(_ byte: UInt8, _ at: inout Int) throws(Malformed) {
        let isSpace = byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09
        if isSpace, place != .inKey {
            at += 1
            return
        }
        switch (place, byte) {
        case (.start, UInt8(ascii: "{")): place = .beforeKey
        case (.beforeKey, UInt8(ascii: "\"")):
            key.removeAll()
            place = .inKey
        case (.beforeKey, UInt8(ascii: "}")) where !hasComma: place = .end
        case (.inKey, UInt8(ascii: "\"")): place = .beforeColon
        case (.inKey, _):
            guard byte != UInt8(ascii: "\\") else { throw .notAList }
            // Of a key longer than any that matters the beginning is enough to tell.
            if key.count < 100 { key.append(byte) }
        case (.beforeColon, UInt8(ascii: ":")): place = .beforeValue
        case (.beforeValue, UInt8(ascii: "[")) where key.elementsEqual("items".utf8):
            inItems = true
            hasComma = false
            place = .beforeItem
        case (.beforeItem, UInt8(ascii: "]")) where !hasComma, (.afterItem, UInt8(ascii: "]")):
            inItems = false
            place = .afterValue
        case (.beforeValue, _) where byte != UInt8(ascii: ",") && byte != UInt8(ascii: "}"),
            (.beforeItem, UInt8(ascii: "{")):
            place = .inValue
            return
        case (.afterItem, UInt8(ascii: ",")):
            hasComma = true
            place = .beforeItem
        case (.afterValue, UInt8(ascii: ",")):
            hasComma = true
            place = .beforeKey
        case (.afterValue, UInt8(ascii: "}")): place = .end
        default: throw .notAList
        }
        at += 1
    }

    /// Moves `at` behind the value, or to the end of the chunk; whether the value is complete.
    private mutating func scanValue(_ chunk: Span<UInt8>, _ at: inout Int) -> Bool {
        while at < chunk.count {
            let byte = chunk[unchecked: at]
            if inString {
                at += 1
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == UInt8(ascii: "\"") {
                    inString = false
                    if depth == 0 { return true }
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "\""): inString = true
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                // A bare word or number ends where the list goes on; this byte is the list's.
                if depth == 0 { return true }
                depth -= 1
                if depth == 0 {
                    at += 1
                    return true
                }
            case UInt8(ascii: ","): if depth == 0 { return true }
            default: break
            }
            at += 1
        }
        return false
    }
}
