/// Anchors, aliases and merge keys. An alias becomes a copy of the nodes it stands for (their text is shared), so that
/// whoever reads a document need not know of any of this.

/// The anchors of one document.
struct YAMLAnchors {
    struct Range {
        let start: Int
        /// nil: not complete yet.
        var end: Int?
    }
    private var byName: [String: Range] = [:]
    /// Where anchored nodes are, in order, and what those that are not complete are called.
    private var starts: [Int] = []
    private var incomplete: [(name: String, start: Int)] = []
    /// Nodes that aliases have been replaced by.
    var copied = 0

    /// A name may be used again: from here on it is this one.
    mutating func begin(_ anchor: UnsafeMutablePointer<UInt8>?, at index: Int, isComplete: Bool) {
        guard let name = anchor.map({ String(cString: $0) }) else { return }
        starts.append(index)
        byName[name] = Range(start: index, end: isComplete ? index + 1 : nil)
        if !isComplete { incomplete.append((name, index)) }
    }
    /// The sequence or mapping at `index` is complete, up to the last node there is.
    mutating func complete(_ index: Int, end: Int) {
        guard let last = incomplete.last, last.start == index else { return }
        incomplete.removeLast()
        if byName[last.name]?.start == index { byName[last.name]?.end = end }
    }

    subscript(_ name: String) -> Range? { byName[name] }

    func areAny(in range: Swift.Range<Int>) -> Bool {
        var (low, high) = (0, starts.count)
        while low < high {
            let middle = (low + high) / 2
            if starts[middle] < range.lowerBound { low = middle + 1 } else { high = middle }
        }
        return low < starts.count && starts[low] < range.upperBound
    }
}

extension YAMLParser {
    mutating func expandAlias(_ anchor: UnsafeMutablePointer<UInt8>?, _ line: Int) throws(YAMLError) {
        let name = anchor.map { String(cString: $0) } ?? ""
        guard let range = anchors[name] else {
            throw YAMLError(line: line, message: "there is no anchor &\(name.prefix(80)) before the alias to it")
        }
        guard let end = range.end else {
            throw YAMLError(line: line, message: "the alias *\(name.prefix(80)) is inside of what it stands for")
        }
        let count = end - range.start
        anchors.copied += count
        guard anchors.copied <= limits.aliased else {
            throw YAMLError(
                line: line,
                message: "the document's aliases stand for more than \(limits.aliased) values; divide it with ---")
        }
        guard nodes.count + count <= limits.nodes else {
            throw YAMLError(
                line: line, message: "the document has more than \(limits.nodes) values; divide it with ---")
        }
        guard open.count + depth(range.start..<end) <= limits.depth else {
            throw YAMLError(line: line, message: "values are nested more than \(limits.depth) deep")
        }
        let shift = Int32(nodes.count - range.start)
        nodes.reserveCapacity(nodes.count + count)
        for index in range.start..<end {
            var node = nodes[index]
            node.end += shift
            nodes.append(node)
        }
    }

    /// How deep sequences and mappings are nested.
    private func depth(_ range: Range<Int>) -> Int {
        var ends: [Int] = []
        var deepest = 0
        for index in range where nodes[index].kind != .scalar && !nodes[index].isSkipped {
            while let end = ends.last, end <= index { ends.removeLast() }
            ends.append(Int(nodes[index].end))
            deepest = max(deepest, ends.count)
        }
        return deepest
    }

    // MARK: Merge keys

    /// `<<`, and not "<<".
    func isMergeKey(_ key: YAMLDocument.Node) -> Bool {
        key.isPlain && key.length == 2 && bytes(of: key).allSatisfy { $0 == UInt8(ascii: "<") }
    }

    /// Puts the keys of the mapping, or mappings, that `<<` names into the mapping it is in. The mapping's own keys
    /// win, of several mappings the first: as kubectl reads it. There `<<` also replaces keys that stand before it, and
    /// by YAML's own rule it does not: that is refused.
    mutating func merge(
        _ key: Int, before: ArraySlice<YAMLDocument.Node>, after: ArraySlice<YAMLDocument.Node>
    ) throws(YAMLError) {
        let value = key + 1
        let line = Int(nodes[key].line)
        guard !anchors.areAny(in: value..<Int(nodes[value].end)) else {
            throw YAMLError(line: line, message: "an anchor must not be inside the value of <<; set it elsewhere")
        }
        let replaced = Set(before.map { bytes(of: $0) })
        var taken = replaced.union(after.map { bytes(of: $0) })
        nodes[key].isSkipped = true
        var mappings = [value]
        if nodes[value].kind == .sequence {
            mappings = children(of: value)
            skipHead(of: value)
        }
        for mapping in mappings {
            guard nodes[mapping].kind == .mapping else {
                throw YAMLError(line: line, message: "the value of << must be a mapping or a list of mappings")
            }
            for index in children(of: mapping).enumerated().lazy.filter({ $0.offset.isMultiple(of: 2) }).map(\.element)
            {
                let name = bytes(of: nodes[index])
                guard !replaced.contains(name) else {
                    let text = String(decoding: name, as: UTF8.self).prefix(80)
                    throw YAMLError(
                        line: line,
                        message:
                            "the key \"\(text)\" stands before << and comes from it, too, and programs do not agree "
                            + "on which of them counts; put << first")
                }
                guard !taken.insert(name).inserted else { continue }
                nodes[index].isSkipped = true
                nodes[index].end = nodes[index + 1].end
            }
            skipHead(of: mapping)
        }
    }

    /// A sequence's elements, or a mapping's keys and values.
    private func children(of index: Int) -> [Int] {
        var children: [Int] = []
        var at = index + 1
        while at < Int(nodes[index].end) {
            if !nodes[at].isSkipped { children.append(at) }
            at = Int(nodes[at].end)
        }
        return children
    }
    /// What was below it is now where it was.
    private mutating func skipHead(of index: Int) {
        nodes[index].isSkipped = true
        nodes[index].end = Int32(index + 1)
    }
}
