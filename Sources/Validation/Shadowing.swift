/// Matches that never get a request because another one, which is asked before them, takes all that they would. Gateway
/// API asks the more specific first, so that hiding takes an equal place in that order: the same match written
/// otherwise, or a regular expression that takes in what stands behind it.
import RouteIR

struct Shadow: Hashable {
    let hidden: RouteMatcher.Position
    let by: RouteMatcher.Position
}

struct ShadowSearch {
    private(set) var shadows: [Shadow] = []
    /// Matches compared with one another.
    private(set) var comparisons = 0

    /// Of one shape those whose fields have regular expressions, which must be tried one by one. More are not looked
    /// at: what is found stays true.
    private static let maximumTried = 32

    /// What takes in a path. Everything under `beginning` takes in what begins with it.
    private enum PathKey: Hashable {
        case exact(String)
        case prefix([UInt8])
        case regex(String)
        case beginning([UInt8])
    }
    /// A match can only take in another, and be asked before it, if it has the same method and the same fields.
    private struct Shape: Hashable {
        let path: PathKey
        let method: String?
        let headers: [String]
        let query: [String]

        init(_ match: RouteMatch, _ path: PathKey) {
            self.path = path
            method = match.method
            headers = match.headers.map(\.name).sorted()
            query = match.query.map(\.name).sorted()
        }
    }
    private struct Bucket {
        var byValues: [[FieldMatch]: RouteMatcher.Position] = [:]
        var patterned: [RouteMatcher.Position] = []
    }
    private let rules: [RouteRule]
    private var buckets: [Shape: Bucket] = [:]

    init(_ rules: [RouteRule]) {
        self.rules = rules
        for position in RouteMatcher(rules).order { visit(position) }
    }

    private mutating func visit(_ position: RouteMatcher.Position) {
        let match = rules[position.rule].matches[position.match]
        let keys = PathKeys(match.path)
        for key in keys.hiding {
            guard let winner = find(match, at: key) else { continue }
            shadows.append(Shadow(hidden: position, by: winner))
            // What it takes in, its winner does.
            return
        }
        let fields = Self.sorted(match)
        let hasPattern = fields.contains { if case .regex = $0.value { true } else { false } }
        for key in keys.own {
            let shape = Shape(match, key)
            let isNew = buckets[shape, default: Bucket()].byValues.updateValue(position, forKey: fields) == nil
            if isNew, hasPattern, buckets[shape, default: Bucket()].patterned.count < Self.maximumTried {
                buckets[shape, default: Bucket()].patterned.append(position)
            }
        }
    }

    private mutating func find(_ match: RouteMatch, at key: PathKey) -> RouteMatcher.Position? {
        guard let bucket = buckets[Shape(match, key)] else { return nil }
        comparisons += 1
        if let same = bucket.byValues[Self.sorted(match)] { return same }
        for other in bucket.patterned {
            comparisons += 1
            if takesIn(rules[other.rule].matches[other.match], match) { return other }
        }
        return nil
    }

    private static func sorted(_ match: RouteMatch) -> [FieldMatch] {
        match.headers.sorted { $0.name < $1.name } + match.query.sorted { $0.name < $1.name }
    }

    /// Both have the same fields.
    private func takesIn(_ wide: RouteMatch, _ narrow: RouteMatch) -> Bool {
        zip(Self.sorted(wide), Self.sorted(narrow)).allSatisfy { wide, narrow in
            switch (wide.value, narrow.value) {
            case (.regex(let pattern), .exact(let text)): pattern.matches(Array(text.utf8).span)
            case (.regex(let wide), .regex(let narrow)):
                wide == narrow || wide.everythingBehind.map { narrow.literalPrefix.starts(with: $0) } ?? false
            default: wide.value == narrow.value
            }
        }
    }

    private struct PathKeys {
        /// Under which others may find it.
        let own: [PathKey]
        /// Under which it finds what hides it.
        let hiding: [PathKey]

        init(_ path: PathMatch) {
            switch path {
            case .exact(let text):
                own = [.exact(text)]
                hiding = own
            case .prefix(let text):
                var bytes = Array(text.utf8)
                if bytes.last == UInt8(ascii: "/") { bytes.removeLast() }
                // Everything is below the empty one.
                own = bytes.isEmpty ? [.prefix(bytes), .beginning(bytes)] : [.prefix(bytes)]
                hiding = [.prefix(bytes), .beginning(bytes)]
            case .regex(let pattern):
                own = [.regex(pattern.source)] + (pattern.everythingBehind.map { [.beginning($0)] } ?? [])
                hiding = [.regex(pattern.source), .beginning(pattern.literalPrefix)]
            }
        }
    }
}

extension Pattern {
    /// `/api/.*`: what a text must begin with, and nothing else. nil: it asks more, or may.
    fileprivate var everythingBehind: [UInt8]? {
        var rest = source.utf8[...]
        if rest.starts(with: "(?s)".utf8) { rest = rest.dropFirst(4) }
        guard rest.suffix(2).elementsEqual(".*".utf8) else { return nil }
        let beginning = rest.dropLast(2)
        let isPlain = beginning.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "/"), UInt8(ascii: "_"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
        return isPlain ? Array(beginning) : nil
    }
}
