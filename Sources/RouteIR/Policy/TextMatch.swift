/// What a text must be: `abc`, `abc*`, `*abc`, `*` (anything but nothing), and of paths `/a/{*}/b/{**}`.

package enum TextMatch: Hashable, Sendable, Codable {
    case exact(String)
    case prefix(String)
    case suffix(String)
    /// There is one, and it is not empty.
    case present
    case template(PathTemplate)

    /// A star that is neither the first nor the last character is one like any other.
    package init(_ text: String) {
        if text == "*" {
            self = .present
        } else if text.hasPrefix("*") {
            self = .suffix(String(text.dropFirst()))
        } else if text.hasSuffix("*") {
            self = .prefix(String(text.dropLast()))
        } else {
            self = .exact(text)
        }
    }
    /// nil: a template that is none.
    package init?(path text: String) {
        guard text.contains("{*}") || text.contains("{**}") else {
            self.init(text)
            return
        }
        guard let template = PathTemplate(text) else { return nil }
        self = .template(template)
    }

    /// `ignoresCase`: the text of the match is in lower case already.
    package func matches(_ value: Span<UInt8>, ignoresCase: Bool = false) -> Bool {
        switch self {
        case .present: return !value.isEmpty
        case .exact(let text): return value.count == text.utf8.count && value.holds(text, at: 0, ignoresCase)
        case .prefix(let text): return value.holds(text, at: 0, ignoresCase)
        case .suffix(let text): return value.holds(text, at: value.count - text.utf8.count, ignoresCase)
        case .template(let template): return template.matches(value)
        }
    }

    package var description: String {
        switch self {
        case .exact(let text): text
        case .prefix(let text): text + "*"
        case .suffix(let text): "*" + text
        case .present: "*"
        case .template(let template): template.text
        }
    }
}

/// A path of which `{*}` is one segment, and `{**}` any number of them.
package struct PathTemplate: Hashable, Sendable, Codable {
    private enum Piece: Hashable, Sendable, Codable {
        case literal(String)
        /// At least one byte, none of them a slash.
        case segment
    }
    package let text: String
    /// From the beginning.
    private let head: [Piece]
    /// What it ends with, behind `{**}`; nil: there is no `{**}`, and `head` is all.
    private let tail: String?

    /// nil: a brace or a star that is no segment of its own, or more than literals behind `{**}`.
    package init?(_ text: String) {
        guard text.hasPrefix("/") else { return nil }
        var head: [Piece] = []
        var literal = ""
        var isOpen = false
        for part in text.dropFirst().split(separator: "/", omittingEmptySubsequences: false) {
            literal += "/"
            switch part {
            case "{*}" where !isOpen:
                head += [.literal(literal), .segment]
                literal = ""
            case "{**}" where !isOpen:
                head.append(.literal(literal))
                literal = ""
                isOpen = true
            case _ where part.contains { "{}*".contains($0) }: return nil
            default: literal += part
            }
        }
        if !isOpen, !literal.isEmpty { head.append(.literal(literal)) }
        self.text = text
        self.head = head
        tail = isOpen ? literal : nil
    }

    func matches(_ path: Span<UInt8>) -> Bool {
        var position = 0
        for piece in head {
            switch piece {
            case .literal(let text):
                guard path.holds(text, at: position, false) else { return false }
                position += text.utf8.count
            case .segment:
                let start = position
                while position < path.count, path[position] != UInt8(ascii: "/") { position += 1 }
                guard position > start else { return false }
            }
        }
        guard let tail else { return position == path.count }
        let rest = path.count - tail.utf8.count
        return rest >= position && path.holds(tail, at: rest, false)
    }
}

extension Span<UInt8> {
    fileprivate func holds(_ text: String, at start: Int, _ ignoresCase: Bool) -> Bool {
        guard start >= 0, count - start >= text.utf8.count else { return false }
        var index = start
        for byte in text.utf8 {
            let own = self[index]
            let isCapital = ignoresCase && own >= UInt8(ascii: "A") && own <= UInt8(ascii: "Z")
            guard (isCapital ? own | 0x20 : own) == byte else { return false }
            index += 1
        }
        return true
    }
}
