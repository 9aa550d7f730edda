/// A text with any number of documents. It is cut at the `---` lines first and each piece is parsed alone, so that a
/// mistake in one document neither hides the documents after it nor makes their line numbers doubtful; YAML forbids
/// such a line inside any value, quoted or not, so the cut is exact.
///
/// JSON goes the same way: it is YAML's flow style.

package struct YAMLStream {
    private let bytes: [UInt8]
    private let limits: YAMLLimits
    private var at = 0
    private var line = 1
    /// Documents of the last piece, in reverse: a piece can hold several, divided by `...` lines.
    private var pending: [Result<YAMLDocument, YAMLError>] = []

    /// Refuses a text that is too long or not UTF-8.
    package init(_ bytes: [UInt8], limits: YAMLLimits = YAMLLimits()) throws(YAMLError) {
        guard bytes.count <= limits.bytes else {
            throw YAMLError(
                line: 1, message: "the text has \(bytes.count) bytes, more than the \(limits.bytes) allowed; divide it")
        }
        do throws(UTF8.ValidationError) {
            _ = try UTF8Span(validating: bytes.span)
        } catch {
            let line = 1 + bytes[..<error.byteOffsets.lowerBound].count { $0 == UInt8(ascii: "\n") }
            throw YAMLError(line: line, message: "this is not UTF-8 text; write it as plain UTF-8 YAML or JSON")
        }
        self.bytes = bytes
        self.limits = limits
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) { at = 3 }
    }

    /// The next document, or what is wrong with it; nil at the end. Empty documents are left out.
    package mutating func next() -> Result<YAMLDocument, YAMLError>? {
        while pending.isEmpty {
            guard at < bytes.count else { return nil }
            let start = at
            let firstLine = line
            advanceToNextMarker()
            pending = bytes.withUnsafeBufferPointer { bytes in
                if let json = JSONText.prepared(bytes[start..<at]) {
                    let firstLine = firstLine + json.linesBefore
                    return json.text.withUnsafeBufferPointer {
                        YAMLParser.documents(in: $0, firstLine: firstLine, limits: limits)
                    }
                }
                let piece = UnsafeBufferPointer(rebasing: bytes[start..<at])
                return YAMLParser.documents(in: piece, firstLine: firstLine, limits: limits)
            }
            pending.reverse()
        }
        return pending.removeLast()
    }

    /// Moves to the `---` line that begins the document after this one, or to the end. Comments and directives before a
    /// document belong to it.
    private mutating func advanceToNextMarker() {
        var hasContent = false
        bytes.withUnsafeBufferPointer { bytes in
            while at < bytes.count {
                let rest = bytes[at...]
                if rest.isMarkerLine {
                    if hasContent { return }
                    hasContent = true
                } else if !hasContent {
                    hasContent = !rest.isBlankCommentOrDirective
                }
                if let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    at = end + 1
                    line += 1
                } else {
                    at = bytes.count
                }
            }
        }
    }

    /// All documents of a text, where one mistake spoils the whole, as in a configuration file.
    package static func documents(in bytes: [UInt8], limits: YAMLLimits = YAMLLimits()) throws(YAMLError)
        -> [YAMLDocument]
    {
        var stream = try YAMLStream(bytes, limits: limits)
        var documents: [YAMLDocument] = []
        while let next = stream.next() { documents.append(try next.get()) }
        return documents
    }
}

extension Slice<UnsafeBufferPointer<UInt8>> {
    /// `---` and then white space or the end of the text.
    fileprivate var isMarkerLine: Bool {
        let dash = UInt8(ascii: "-")
        guard count >= 3, self[startIndex] == dash, self[startIndex + 1] == dash, self[startIndex + 2] == dash else {
            return false
        }
        return count == 3 || [0x20, 0x09, 0x0a, 0x0d].contains(self[startIndex + 3])
    }
    fileprivate var isBlankCommentOrDirective: Bool {
        if first == UInt8(ascii: "%") { return true }
        switch first(where: { $0 != 0x20 && $0 != 0x09 && $0 != 0x0d }) {
        case nil, 0x0a, UInt8(ascii: "#"): return true
        default: return false
        }
    }
}
