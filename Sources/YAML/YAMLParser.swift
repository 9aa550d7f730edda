/// Drives libyaml and lays its events down as documents. Everything a manifest does not need and an attacker could use
/// is refused here: bottomless nesting, aliases that stand for very much, keys that are not text, one key twice.
import CLibyaml

struct YAMLParser {
    private let parser: UnsafeMutablePointer<yaml_parser_t>
    let limits: YAMLLimits
    /// Lines of the file before this piece of text.
    private let linesBefore: Int
    var nodes: [YAMLDocument.Node] = []
    private var text: [UInt8] = []
    /// Indexes of the sequences and mappings that are open.
    private(set) var open: [Int] = []
    var anchors = YAMLAnchors()

    /// The documents in a piece of text. After an error nothing more of the piece is read.
    static func documents(in text: UnsafeBufferPointer<UInt8>, firstLine: Int, limits: YAMLLimits)
        -> [Result<YAMLDocument, YAMLError>]
    {
        // libyaml keeps a pointer to its own parser structure, so it must not move: hence the heap.
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        defer { parser.deallocate() }
        guard yaml_parser_initialize(parser) == 1 else {
            return [.failure(YAMLError(line: firstLine, message: "there is no memory to read it"))]
        }
        defer { yaml_parser_delete(parser) }
        yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
        yaml_parser_set_input_string(parser, text.baseAddress, text.count)
        var driver = YAMLParser(parser: parser, limits: limits, linesBefore: firstLine - 1)
        var documents: [Result<YAMLDocument, YAMLError>] = []
        do throws(YAMLError) {
            while let document = try driver.nextDocument(text) { documents.append(.success(document)) }
        } catch {
            documents.append(.failure(error))
        }
        return documents
    }

    private init(parser: UnsafeMutablePointer<yaml_parser_t>, limits: YAMLLimits, linesBefore: Int) {
        self.parser = parser
        self.limits = limits
        self.linesBefore = linesBefore
    }

    /// The next document that is not empty; nil at the end of the text.
    private mutating func nextDocument(_ text: UnsafeBufferPointer<UInt8>) throws(YAMLError) -> YAMLDocument? {
        var event = yaml_event_t()
        while true {
            guard yaml_parser_parse(parser, &event) == 1 else { throw parserError(text) }
            defer { yaml_event_delete(&event) }
            switch event.type {
            case YAML_STREAM_END_EVENT, YAML_NO_EVENT: return nil
            case YAML_DOCUMENT_START_EVENT:
                nodes = []
                self.text = []
                open.removeAll(keepingCapacity: true)
                anchors = YAMLAnchors()
            case YAML_DOCUMENT_END_EVENT where isEmpty: break
            case YAML_DOCUMENT_END_EVENT: return YAMLDocument(nodes: nodes, text: self.text)
            default: try add(event)
            }
        }
    }

    private mutating func add(_ event: yaml_event_t) throws(YAMLError) {
        let line = linesBefore + event.start_mark.line + 1
        guard nodes.count < limits.nodes else {
            throw YAMLError(
                line: line, message: "the document has more than \(limits.nodes) values; divide it with ---")
        }
        switch event.type {
        case YAML_SCALAR_EVENT:
            let scalar = event.data.scalar
            let offset = text.count
            text.append(contentsOf: UnsafeBufferPointer(start: scalar.value, count: scalar.length))
            anchors.begin(scalar.anchor, at: nodes.count, isComplete: true)
            nodes.append(
                YAMLDocument.Node(
                    kind: .scalar, isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE, line: Int32(clamping: line),
                    offset: Int32(offset), length: Int32(scalar.length), end: Int32(nodes.count + 1)))
        case YAML_SEQUENCE_START_EVENT: try push(.sequence, line, anchor: event.data.sequence_start.anchor)
        case YAML_MAPPING_START_EVENT: try push(.mapping, line, anchor: event.data.mapping_start.anchor)
        case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT:
            guard let index = open.popLast() else { return }
            nodes[index].end = Int32(nodes.count)
            if nodes[index].kind == .mapping { try checkKeys(index) }
            anchors.complete(index, end: nodes.count)
        case YAML_ALIAS_EVENT: try expandAlias(event.data.alias.anchor, line)
        default: break
        }
    }

    private mutating func push(
        _ kind: YAMLNode.Kind, _ line: Int, anchor: UnsafeMutablePointer<UInt8>?
    ) throws(YAMLError) {
        guard open.count < limits.depth else {
            throw YAMLError(line: line, message: "values are nested more than \(limits.depth) deep")
        }
        anchors.begin(anchor, at: nodes.count, isComplete: false)
        open.append(nodes.count)
        nodes.append(YAMLDocument.Node(kind: kind, line: Int32(clamping: line)))
    }

    /// A mapping's keys must be text, and each must be there once: of two values for one field, nobody can say which
    /// was meant.
    private mutating func checkKeys(_ mapping: Int) throws(YAMLError) {
        var keys: [YAMLDocument.Node] = []
        var merge: (index: Int, keysBefore: Int)?
        var at = mapping + 1
        while at < nodes.count {
            let key = nodes[at]
            guard key.kind == .scalar else {
                throw YAMLError(line: Int(key.line), message: "a key must be plain text")
            }
            if isMergeKey(key) { merge = (at, keys.count) }
            keys.append(key)
            at = Int(nodes[Int(key.end)].end)
        }
        if let merge, firstRepeated(amongMany: keys) == nil {
            keys.remove(at: merge.keysBefore)
            return try self.merge(merge.index, before: keys[..<merge.keysBefore], after: keys[merge.keysBefore...])
        }
        guard let twice = keys.count <= 16 ? firstRepeated(among: keys) : firstRepeated(amongMany: keys) else { return }
        let name = String(decoding: bytes(of: twice), as: UTF8.self).prefix(80)
        throw YAMLError(line: Int(twice.line), message: "the key \"\(name)\" is there twice; remove one")
    }
    /// Most mappings are so small that comparing each key with each is quicker than hashing them.
    private func firstRepeated(among keys: [YAMLDocument.Node]) -> YAMLDocument.Node? {
        for (index, key) in keys.enumerated() {
            for other in keys[..<index] where other.length == key.length && bytes(of: other) == bytes(of: key) {
                return key
            }
        }
        return nil
    }
    private func firstRepeated(amongMany keys: [YAMLDocument.Node]) -> YAMLDocument.Node? {
        var seen: Set<ArraySlice<UInt8>> = []
        return keys.first { !seen.insert(bytes(of: $0)).inserted }
    }
    func bytes(of scalar: YAMLDocument.Node) -> ArraySlice<UInt8> {
        text[Int(scalar.offset)..<Int(scalar.offset + scalar.length)]
    }

    /// No text at all, as between two `---` lines: a single null written with no character.
    private var isEmpty: Bool { nodes.isEmpty || nodes.count == 1 && nodes[0].isPlain && nodes[0].length == 0 }

    private func parserError(_ text: UnsafeBufferPointer<UInt8>) -> YAMLError {
        let state = parser.pointee
        guard let problem = state.problem.map({ String(cString: $0) }) else {
            return YAMLError(line: linesBefore + 1, message: "there is no memory to read it")
        }
        // Errors of the byte reader carry an offset, the others a line.
        let line =
            state.error == YAML_READER_ERROR
            ? text.prefix(state.problem_offset).count { $0 == UInt8(ascii: "\n") } : state.problem_mark.line
        var message = "this is not valid YAML: \(problem)"
        if let context = state.context.map({ String(cString: $0) }) {
            message += " \(context) that starts on line \(linesBefore + state.context_mark.line + 1)"
        }
        if problem.contains("cannot start any token") {
            message += "; tabs cannot indent and some characters need quotes"
        }
        return YAMLError(line: linesBefore + line + 1, message: message)
    }
}
