/// Finds the rule for a request. Built once for the rules of one service and one group of clients; finding costs the
/// same with ten rules and with ten thousand, as long as they differ by path, and allocates nothing. What a request may
/// cost has an end, whatever the rules are (`MatchBudget`).
///
/// The order is Gateway API's (spec 1.9): exact path, then the longest prefix, then a method, then most headers, then
/// most query parameters, then the order of the rules. A regular expression counts as a prefix of the length of its
/// literal beginning, so that a catch-all `/` does not hide it.

package struct RouteMatcher: Sendable {
    /// A match of a rule, by their numbers.
    package struct Position: Hashable, Sendable {
        package let rule: Int
        package let match: Int
    }
    /// The part of a match that a request does not satisfy.
    package enum Mismatch: Hashable, Sendable {
        case path
        case method
        case header(String)
        case query(String)
    }

    /// An object, because looking at one in an array must not copy its lists.
    fileprivate final class Entry: Sendable {
        let rank: Int
        let rule: Int
        let path: CompiledPath
        let method: [UInt8]?
        let headers: [CompiledField]
        let query: [CompiledField]

        init(_ rank: Int, _ rule: Int, _ match: RouteMatch) {
            self.rank = rank
            self.rule = rule
            path =
                switch match.path {
                case .exact(let path): .exact(Array(path.utf8))
                case .prefix(let path): .prefix(withoutTrailingSlash(path))
                case .regex(let pattern): .regex(pattern)
                }
            method = match.method.map { Array($0.utf8) }
            headers = match.headers.map(CompiledField.init)
            query = match.query.map(CompiledField.init)
        }
    }
    fileprivate enum CompiledPath: Sendable {
        case exact([UInt8])
        case prefix([UInt8])
        case regex(Pattern)
    }

    /// Every match, the one that is asked first first.
    package let order: [Position]
    private let entries: [Entry]
    private var exact = PathIndex()
    private var prefixes = PathIndex()
    /// Ranks of the matches with a regular expression for the path.
    private var others: [Int] = []
    /// Those expressions, in the same order.
    private let patterns: PatternSet

    package init(_ rules: [RouteRule]) {
        var keyed: [(key: Precedence, position: Position)] = []
        for (rule, value) in rules.enumerated() {
            for (match, condition) in value.matches.enumerated() {
                keyed.append((Precedence(condition), Position(rule: rule, match: match)))
            }
        }
        // Stable: what is equal stays in the order of the rules.
        keyed.sort { $0.key < $1.key }
        order = keyed.map(\.position)
        entries = order.enumerated().map { rank, position in
            Entry(rank, position.rule, rules[position.rule].matches[position.match])
        }
        var patterns: [Pattern] = []
        for entry in entries {
            switch entry.path {
            case .exact(let path): exact.add(entry.rank, at: path)
            case .prefix(let path): prefixes.add(entry.rank, at: path)
            case .regex(let pattern):
                others.append(entry.rank)
                patterns.append(pattern)
            }
        }
        self.patterns = PatternSet(patterns)
        prefixes.linkParents()
    }

    package func match(_ request: some RequestView) -> Int? {
        var budget = MatchBudget.unlimited
        return match(request, PatternCache(), &budget)
    }
    /// The number of the rule that this request falls under; nil: none (404, or UNIMPLEMENTED). Means nothing once the
    /// budget is exhausted.
    package func match(_ request: some RequestView, _ cache: PatternCache, _ budget: inout MatchBudget) -> Int? {
        request.path { path -> Int? in
            if let bucket = exact.bucket(for: path), let rank = firstMatch(exact.ranks(in: bucket), request, &budget) {
                return entries[rank].rule
            }
            var best: Int?
            var bucket = prefixes.deepestPrefix(of: path)
            while best == nil, let here = bucket {
                best = firstMatch(prefixes.ranks(in: here), request, &budget)
                bucket = prefixes.parent(of: here)
            }
            if let first = others.first, first < best ?? .max {
                for pattern in cache.automaton(for: patterns).matches(path, &budget) {
                    let rank = others[pattern]
                    if let best, best < rank { break }
                    if mismatch(entries[rank], request, &budget) == nil { return entries[rank].rule }
                }
            }
            return best.map { entries[$0].rule }
        }
    }

    private func firstMatch(_ ranks: [Int], _ request: some RequestView, _ budget: inout MatchBudget) -> Int? {
        for rank in ranks where mismatch(entries[rank], request, &budget) == nil { return rank }
        return nil
    }

    /// Why the match at this place in `order` does not hold; nil if it does.
    package func mismatch(at rank: Int, _ request: some RequestView) -> Mismatch? {
        let isPath = request.path { path in
            switch entries[rank].path {
            case .exact(let wanted): path.elementsEqual(wanted)
            case .prefix(let wanted): path.isBelow(wanted)
            case .regex(let pattern): pattern.matches(path)
            }
        }
        guard isPath else { return .path }
        var budget = MatchBudget.unlimited
        return mismatch(entries[rank], request, &budget)
    }

    /// Steps for looking for a header, and for a match at all.
    private static let cost = (header: 32, match: 4)

    /// Everything but the path.
    private func mismatch(_ entry: Entry, _ request: some RequestView, _ budget: inout MatchBudget) -> Mismatch? {
        guard budget.take(Self.cost.match) else { return .path }
        if let method = entry.method, !request.method({ $0.elementsEqual(method) }) { return .method }
        for field in entry.headers {
            guard budget.take(Self.cost.header),
                request.header(field.name, passes: { field.value.matches($0, &budget) })
            else { return .header(field.name) }
        }
        for field in entry.query {
            let holds = request.query { query in
                budget.take(query.count)
                    && queryParameter(field.nameBytes, in: query) { field.value.matches($0, &budget) }
            }
            if !holds { return .query(field.name) }
        }
        return nil
    }
}

/// Smaller goes first.
private struct Precedence: Comparable {
    private let values: (Int, Int, Int, Int, Int)

    init(_ match: RouteMatch) {
        let path =
            switch match.path {
            case .exact: (0, 0)
            case .prefix(let prefix): (1, -withoutTrailingSlash(prefix).count)
            case .regex(let pattern): (1, -pattern.literalPrefix.count)
            }
        values = (path.0, path.1, match.method == nil ? 1 : 0, -match.headers.count, -match.query.count)
    }
    static func == (a: Precedence, b: Precedence) -> Bool { a.values == b.values }
    static func < (a: Precedence, b: Precedence) -> Bool { a.values < b.values }
}

fileprivate struct CompiledField: Sendable {
    enum Value: Sendable {
        case exact([UInt8])
        case regex(Pattern)

        func matches(_ text: Span<UInt8>, _ budget: inout MatchBudget) -> Bool {
            switch self {
            case .exact(let bytes): text.elementsEqual(bytes)
            case .regex(let pattern): pattern.matches(text, &budget)
            }
        }
    }
    let name: String
    let nameBytes: [UInt8]
    let value: Value

    init(_ field: FieldMatch) {
        name = field.name
        nameBytes = Array(field.name.utf8)
        switch field.value {
        case .exact(let text): value = .exact(Array(text.utf8))
        case .regex(let pattern): value = .regex(pattern)
        }
    }
}

private func withoutTrailingSlash(_ path: String) -> [UInt8] {
    var bytes = Array(path.utf8)
    if bytes.last == UInt8(ascii: "/") { bytes.removeLast() }
    return bytes
}

extension Span<UInt8> {
    /// Equal to the path, or below it by whole elements; everything is below the empty one, `*` too.
    fileprivate func isBelow(_ path: [UInt8]) -> Bool {
        path.isEmpty || starts(with: path) && (count == path.count || self[path.count] == UInt8(ascii: "/"))
    }
}
