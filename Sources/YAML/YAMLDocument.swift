/// One parsed document: all nodes in one array in the order of the text, all scalar text in another. A document of a
/// hundred thousand endpoints is therefore two allocations, not a million objects, and goes away in one piece.

package final class YAMLDocument: Sendable {
    struct Node: Sendable {
        var kind: YAMLNode.Kind
        /// Written without quotes: only such a scalar can be null, true or a number.
        var isPlain = false
        /// No value or key: what stands at `end` takes its place. So a merge key disappears, and what it merges stands
        /// in the mapping itself.
        var isSkipped = false
        var line: Int32
        /// Where a scalar's bytes are in `text`.
        var offset: Int32 = 0
        var length: Int32 = 0
        /// Index after the last node below this one.
        var end: Int32 = 0
    }

    let nodes: [Node]
    let text: [UInt8]

    init(nodes: [Node], text: [UInt8]) {
        self.nodes = nodes
        self.text = text
    }

    /// The value of the whole document.
    package var root: YAMLNode { YAMLNode(document: self, index: 0) }
}

/// A value in a document, or a mapping's key.
package struct YAMLNode: Sendable {
    package enum Kind: UInt8, Sendable {
        case scalar
        case sequence
        case mapping
    }

    let document: YAMLDocument
    let index: Int

    private var node: YAMLDocument.Node { document.nodes[index] }
    package var kind: Kind { node.kind }
    /// The line it starts on, counted from 1 in the whole text.
    package var line: Int { Int(node.line) }
    var isPlain: Bool { node.isPlain }
    var textRange: Range<Int> { Int(node.offset)..<Int(node.offset + node.length) }

    /// The text of a scalar as written, without quotes and escapes; empty for other kinds.
    package var text: String {
        document.text.withUnsafeBufferPointer { String(decoding: $0[textRange], as: UTF8.self) }
    }
    /// The same as bytes, without a copy.
    package var utf8: ArraySlice<UInt8> { document.text[textRange] }

    /// The elements of a sequence; empty for other kinds.
    package var elements: some Sequence<YAMLNode> { Children(document: document, at: index + 1, end: childrenEnd) }
    /// The entries of a mapping in the order of the text; empty for other kinds.
    package var entries: some Sequence<(key: YAMLNode, value: YAMLNode)> {
        Entries(children: Children(document: document, at: index + 1, end: childrenEnd))
    }
    /// The value of a mapping's key, if there is one.
    package subscript(_ key: String) -> YAMLNode? {
        guard kind == .mapping else { return nil }
        return entries.first { $0.key.text == key }?.value
    }
    private var childrenEnd: Int { kind == .scalar ? index + 1 : Int(node.end) }

    private struct Children: Sequence, IteratorProtocol {
        let document: YAMLDocument
        var at: Int
        let end: Int

        mutating func next() -> YAMLNode? {
            while at < end, document.nodes[at].isSkipped { at = Int(document.nodes[at].end) }
            guard at < end else { return nil }
            defer { at = Int(document.nodes[at].end) }
            return YAMLNode(document: document, index: at)
        }
    }
    private struct Entries: Sequence, IteratorProtocol {
        var children: Children

        mutating func next() -> (key: YAMLNode, value: YAMLNode)? {
            guard let key = children.next(), let value = children.next() else { return nil }
            return (key, value)
        }
    }
}
