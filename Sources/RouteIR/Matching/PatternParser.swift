/// Reads the syntax of RE2. What it does not know it refuses by name: a pattern that means something else here than it
/// does elsewhere would be worse.

struct PatternParser {
    private let text: [UInt8]
    private var at = 0
    private var depth = 0
    private var flags = Flags()

    private struct Flags {
        var ignoresCase = false
        var dotTakesNewline = false
        var isMultiline = false
    }
    private static let maximumDepth = 100
    private static let maximumRepetition = 1000

    init(_ source: String) { text = Array(source.utf8) }

    mutating func parse() throws(PatternError) -> PatternNode {
        let node = try choice()
        guard at == text.count else { throw error("an unmatched `)`") }
        return node
    }

    private var next: UInt8? { at < text.count ? text[at] : nil }

    private mutating func skip(_ literal: StaticString) -> Bool {
        let wanted = UnsafeBufferPointer(start: literal.utf8Start, count: literal.utf8CodeUnitCount)
        guard text[at...].starts(with: wanted) else { return false }
        at += wanted.count
        return true
    }
    private func error(_ what: String) -> PatternError { PatternError("\(what) at byte \(at)") }

    // MARK: Structure

    private mutating func choice() throws(PatternError) -> PatternNode {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.maximumDepth else { throw error("groups nested deeper than \(Self.maximumDepth)") }
        var parts = [try sequence()]
        while skip("|") { parts.append(try sequence()) }
        return parts.count == 1 ? parts[0] : .choice(parts)
    }

    private mutating func sequence() throws(PatternError) -> PatternNode {
        var parts: [PatternNode] = []
        while let byte = next, byte != UInt8(ascii: "|"), byte != UInt8(ascii: ")") {
            parts.append(try repeated(atom()))
        }
        return parts.count == 1 ? parts[0] : parts.isEmpty ? .empty : .sequence(parts)
    }

    private mutating func repeated(_ atom: PatternNode) throws(PatternError) -> PatternNode {
        guard let (minimum, maximum) = try quantifier() else { return atom }
        // Whether few or many are tried first makes no difference to whether the whole text matches.
        _ = skip("?")
        let isRepeatedAgain = try quantifier() != nil
        guard !isRepeatedAgain else { throw error("a repetition of a repetition") }
        return .repetition(atom, minimum: minimum, maximum: maximum)
    }

    private mutating func quantifier() throws(PatternError) -> (minimum: Int, maximum: Int?)? {
        if skip("*") { return (0, nil) }
        if skip("+") { return (1, nil) }
        if skip("?") { return (0, 1) }
        let start = at
        guard skip("{"), let minimum = number() else {
            // `{` that begins no repetition stands for itself.
            at = start
            return nil
        }
        var maximum: Int? = minimum
        if skip(",") { maximum = number() }
        guard skip("}") else {
            at = start
            return nil
        }
        guard max(minimum, maximum ?? 0) <= Self.maximumRepetition, minimum <= maximum ?? minimum else {
            throw error("a repetition that is empty or above \(Self.maximumRepetition)")
        }
        return (minimum, maximum)
    }

    private mutating func number() -> Int? {
        var value: Int?
        while let byte = next, ByteSet.digits.contains(byte) {
            value = min((value ?? 0) * 10 + Int(byte - UInt8(ascii: "0")), 1_000_000)
            at += 1
        }
        return value
    }

    private mutating func atom() throws(PatternError) -> PatternNode {
        guard let byte = next else { return .empty }
        switch byte {
        case UInt8(ascii: "("): return try group()
        case UInt8(ascii: "["): return .set(try byteClass())
        case UInt8(ascii: "."):
            at += 1
            return .set(flags.dotTakesNewline ? .all : ByteSet([UInt8(ascii: "\n")]).inverted)
        case UInt8(ascii: "^"):
            at += 1
            return .assertion(flags.isMultiline ? .lineStart : .textStart)
        case UInt8(ascii: "$"):
            at += 1
            return .assertion(flags.isMultiline ? .lineEnd : .textEnd)
        case UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"):
            throw error("a repetition of nothing")
        case UInt8(ascii: "\\"): return try escape()
        default:
            // A character of several bytes is one thing to repeat.
            let bytes = text[at...].prefix(byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4)
            at += bytes.count
            let sets = bytes.map { PatternNode.set(folded(ByteSet([$0]))) }
            return sets.count == 1 ? sets[0] : .sequence(sets)
        }
    }

    private func folded(_ set: ByteSet) -> ByteSet { flags.ignoresCase ? set.caseFolded : set }

    private mutating func group() throws(PatternError) -> PatternNode {
        let outer = flags
        at += 1
        if skip("?") {
            if skip("P<") || skip("<") {
                guard let end = text[at...].firstIndex(of: UInt8(ascii: ">")) else { throw error("a name without `>`") }
                at = end + 1
            } else if try flagGroup() {
                // `(?i)`: holds up to the end of the group it stands in.
                return .empty
            }
        }
        let node = try choice()
        guard skip(")") else { throw error("a group without `)`") }
        flags = outer
        return node
    }

    /// Reads `i-s:` or `i-s)` behind `(?`; true if the group ends here.
    private mutating func flagGroup() throws(PatternError) -> Bool {
        var value = true
        while let byte = next {
            at += 1
            switch byte {
            case UInt8(ascii: "i"): flags.ignoresCase = value
            case UInt8(ascii: "s"): flags.dotTakesNewline = value
            case UInt8(ascii: "m"): flags.isMultiline = value
            case UInt8(ascii: "U"): break
            case UInt8(ascii: "-"): value = false
            case UInt8(ascii: ":"): return false
            case UInt8(ascii: ")"): return true
            default: throw error("`(?\(Character(UnicodeScalar(byte)))`, which is not supported")
            }
        }
        throw error("a group without `)`")
    }

    // MARK: Escapes and classes

    private mutating func escape() throws(PatternError) -> PatternNode {
        at += 1
        guard let byte = next else { throw error("a backslash that ends the pattern") }
        switch byte {
        case UInt8(ascii: "A"): return assertion(.textStart)
        case UInt8(ascii: "z"): return assertion(.textEnd)
        case UInt8(ascii: "b"): return assertion(.wordBoundary)
        case UInt8(ascii: "B"): return assertion(.noWordBoundary)
        case UInt8(ascii: "Q"):
            at += 1
            var sets: [PatternNode] = []
            while let byte = next, !skip("\\E") {
                sets.append(.set(folded(ByteSet([byte]))))
                at += 1
            }
            return .sequence(sets)
        default: return .set(folded(try escapedSet()))
        }
    }

    private mutating func assertion(_ assertion: PatternNode.Assertion) -> PatternNode {
        at += 1
        return .assertion(assertion)
    }

    /// What stands behind a backslash, inside or outside a class.
    private mutating func escapedSet() throws(PatternError) -> ByteSet {
        guard let byte = next else { throw error("a backslash that ends the pattern") }
        at += 1
        switch byte {
        case UInt8(ascii: "d"): return .digits
        case UInt8(ascii: "D"): return ByteSet.digits.inverted
        case UInt8(ascii: "w"): return .word
        case UInt8(ascii: "W"): return ByteSet.word.inverted
        case UInt8(ascii: "s"): return .space
        case UInt8(ascii: "S"): return ByteSet.space.inverted
        case UInt8(ascii: "t"): return ByteSet("\t".utf8)
        case UInt8(ascii: "n"): return ByteSet("\n".utf8)
        case UInt8(ascii: "r"): return ByteSet("\r".utf8)
        case UInt8(ascii: "f"): return ByteSet([0x0c])
        case UInt8(ascii: "v"): return ByteSet([0x0b])
        case UInt8(ascii: "a"): return ByteSet([0x07])
        case UInt8(ascii: "x"): return ByteSet([try hexByte()])
        default:
            guard byte < 0x80, !ByteSet.word.contains(byte) else {
                at -= 1
                throw error("`\\\(Character(UnicodeScalar(byte)))`, which is not supported")
            }
            return ByteSet([byte])
        }
    }

    private mutating func hexByte() throws(PatternError) -> UInt8 {
        let isBraced = skip("{")
        var value = 0
        var digits = 0
        while let digit = next.flatMap(hexDigit), digits < (isBraced ? 8 : 2) {
            value = value << 4 | Int(digit)
            digits += 1
            at += 1
        }
        guard isBraced ? skip("}") && digits > 0 : digits == 2, value < 0x80 else {
            throw error("`\\x` without two digits, or beyond ASCII")
        }
        return UInt8(value)
    }

    private mutating func byteClass() throws(PatternError) -> ByteSet {
        at += 1
        let isInverted = skip("^")
        var set = ByteSet()
        var isFirst = true
        while isFirst || next != UInt8(ascii: "]") {
            isFirst = false
            let start = at
            let low = try classMember()
            // `a-z`, but `-` before the bracket stands for itself.
            let isRange = next == UInt8(ascii: "-") && at + 1 < text.count && text[at + 1] != UInt8(ascii: "]")
            guard isRange, let first = low.single else {
                set.formUnion(low)
                continue
            }
            at += 1
            guard let last = try classMember().single, first <= last else {
                at = start
                throw error("a range that is empty or has no end")
            }
            set.formUnion(ByteSet(first...last))
        }
        at += 1
        let result = folded(set)
        return isInverted ? result.inverted : result
    }

    private mutating func classMember() throws(PatternError) -> ByteSet {
        guard let byte = next else { throw error("a class without `]`") }
        if skip("[:") { return try namedClass() }
        at += 1
        if byte == UInt8(ascii: "\\") { return try escapedSet() }
        guard byte < 0x80 else { throw error("a character outside ASCII in a class, which is not supported") }
        return ByteSet([byte])
    }

    private mutating func namedClass() throws(PatternError) -> ByteSet {
        let isInverted = skip("^")
        let letters = UInt8(ascii: "a")...UInt8(ascii: "z")
        let capitals = UInt8(ascii: "A")...UInt8(ascii: "Z")
        var set = ByteSet()
        if skip("alpha:]") {
            set = ByteSet(Array(letters) + Array(capitals))
        } else if skip("alnum:]") {
            set = ByteSet(Array(letters) + Array(capitals) + Array(UInt8(ascii: "0")...UInt8(ascii: "9")))
        } else if skip("digit:]") {
            set = .digits
        } else if skip("lower:]") {
            set = ByteSet(letters)
        } else if skip("upper:]") {
            set = ByteSet(capitals)
        } else if skip("word:]") {
            set = .word
        } else if skip("space:]") {
            set = ByteSet.space
            set.insert(0x0b)
        } else if skip("xdigit:]") {
            set = ByteSet("0123456789abcdefABCDEF".utf8)
        } else {
            throw error("a named class that is not supported")
        }
        return isInverted ? set.inverted : set
    }
}
