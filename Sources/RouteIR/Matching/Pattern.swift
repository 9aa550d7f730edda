/// Regular expressions that anyone may write into a route: RE2's syntax without Unicode classes and back-references, in
/// time proportional to the text whatever the pattern. All states are followed at once (Thompson), none is tried and
/// taken back, so no pattern can make the proxy slow. It works on bytes: a character outside ASCII is its UTF-8.

package struct PatternError: Error, Hashable, CustomStringConvertible {
    /// What is wrong, and where, as the end of a sentence.
    package let description: String

    init(_ description: String) { self.description = description }
}

package struct Pattern: Sendable, CustomStringConvertible {
    package let source: String
    /// What every match begins with: most texts are refused by it alone.
    package let literalPrefix: [UInt8]
    let program: PatternProgram

    /// Longer texts are refused, as are those that need more than this many states.
    package static let maximumLength = 4096
    package static let maximumStates = 2000
    /// Of all patterns of one table of rules: of a service's port and one group of clients.
    package static let maximumTableStates = 20_000

    package init(_ source: String) throws(PatternError) {
        guard source.utf8.count <= Self.maximumLength else {
            throw PatternError("it is longer than \(Self.maximumLength) bytes")
        }
        var parser = PatternParser(source)
        program = try PatternProgram(parser.parse())
        literalPrefix = program.literalPrefix
        self.source = source
    }

    package var description: String { source }
    package var states: Int { program.instructions.count }

    /// Whether the whole text matches.
    package func matches(_ text: Span<UInt8>) -> Bool {
        var budget = MatchBudget.unlimited
        return matches(text, &budget)
    }
    /// Means nothing once the budget is exhausted.
    func matches(_ text: Span<UInt8>, _ budget: inout MatchBudget) -> Bool {
        text.starts(with: literalPrefix) && program.matches(text, &budget)
    }

    /// What matches all that this pattern does, and perhaps more, in few states: whatever begins as it does.
    package var simplified: Pattern {
        let beginning = literalPrefix.prefix { $0 < 0x80 }.prefix(64)
        return (try? Pattern("(?s)" + Self.quoted(beginning) + ".*")) ?? self
    }
    /// A pattern that matches this text and no other.
    package static func quoted(_ text: some Sequence<UInt8>) -> String {
        var bytes: [UInt8] = []
        for byte in text {
            if byte < 0x80, !ByteSet.word.contains(byte) { bytes.append(UInt8(ascii: "\\")) }
            bytes.append(byte)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
    /// What every text matches.
    package static let anything = try? Pattern("(?s).*")
}

extension Pattern: Hashable {
    package static func == (a: Pattern, b: Pattern) -> Bool { a.source == b.source }
    package func hash(into hasher: inout Hasher) { hasher.combine(source) }
}

/// A set of bytes.
struct ByteSet: Hashable, Sendable {
    private var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

    init() {}
    init(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { insert(byte) }
    }
    static let all = ByteSet(0...255)
    static let digits = ByteSet(UInt8(ascii: "0")...UInt8(ascii: "9"))
    static let word = ByteSet("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_".utf8)
    static let space = ByteSet("\t\n\u{c}\r ".utf8)

    func contains(_ byte: UInt8) -> Bool {
        let bit = UInt64(1) << UInt64(byte & 63)
        return switch byte >> 6 {
        case 0: words.0 & bit != 0
        case 1: words.1 & bit != 0
        case 2: words.2 & bit != 0
        default: words.3 & bit != 0
        }
    }
    mutating func insert(_ byte: UInt8) {
        let bit = UInt64(1) << UInt64(byte & 63)
        switch byte >> 6 {
        case 0: words.0 |= bit
        case 1: words.1 |= bit
        case 2: words.2 |= bit
        default: words.3 |= bit
        }
    }
    mutating func formUnion(_ other: ByteSet) {
        words = (
            words.0 | other.words.0, words.1 | other.words.1, words.2 | other.words.2, words.3 | other.words.3
        )
    }
    var inverted: ByteSet {
        var result = self
        result.words = (~words.0, ~words.1, ~words.2, ~words.3)
        return result
    }
    /// With the other case of each letter.
    var caseFolded: ByteSet {
        var result = self
        for letter in UInt8(ascii: "a")...UInt8(ascii: "z") where contains(letter) || contains(letter - 32) {
            result.insert(letter)
            result.insert(letter - 32)
        }
        return result
    }
    /// Its only element, if it has exactly one.
    var single: UInt8? {
        let count =
            words.0.nonzeroBitCount + words.1.nonzeroBitCount + words.2.nonzeroBitCount + words.3.nonzeroBitCount
        guard count == 1 else { return nil }
        return (UInt8.min...UInt8.max).first(where: contains)
    }

    static func == (a: ByteSet, b: ByteSet) -> Bool { a.words == b.words }
    func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(words.1)
        hasher.combine(words.2)
        hasher.combine(words.3)
    }
}
