/// What one file says: its objects, and what is wrong with the rest of it. Pure: bytes in, values out.
package import Cluster
package import YAML

package struct ManifestFile: Sendable {
    package struct Entry: Sendable {
        package var object: ClusterObject
        package var line: Int
    }
    /// Every object once; of two documents for one object the first.
    package private(set) var entries: [Entry] = []
    package private(set) var problems: [SourceProblem] = []
    /// Objects whose document is broken: their last good version stays in force.
    package private(set) var broken: Set<ObjectID> = []
    /// Something is broken and does not say which object it is: whatever the file held before stays in force.
    package private(set) var hasUnnamedBreakage = false
    /// What makes pods, if it was asked for.
    package private(set) var templates: [PodTemplate] = []
    /// Kinds nobody here follows, each with the line where it came first.
    package private(set) var ignoredKinds: [String: Int] = [:]

    private let name: String
    private let readsTemplates: Bool
    private var seen: [ObjectID: Int] = [:]

    /// Reads all documents of a file. `name` is for messages.
    package init(
        name: String, bytes: [UInt8], decoder: inout ObjectDecoder, limits: YAMLLimits = YAMLLimits(),
        readsTemplates: Bool = false
    ) {
        self.name = name
        self.readsTemplates = readsTemplates
        var stream: YAMLStream
        do throws(YAMLError) {
            stream = try YAMLStream(bytes, limits: limits)
        } catch {
            fail(error.line, nil, nil, error.message)
            return
        }
        while let next = stream.next() {
            switch next {
            case .success(let document): read(document.root, &decoder)
            case .failure(let error): fail(error.line, nil, nil, error.message)
            }
        }
        seen = [:]
    }

    /// A file that could not be read at all.
    package init(unreadable name: String, message: String) {
        self.name = name
        readsTemplates = false
        hasUnnamedBreakage = true
        problems.append(SourceProblem(location: name, message: message))
    }

    private mutating func read(_ node: YAMLNode, _ decoder: inout ObjectDecoder) {
        if node.scalar == .null { return }
        guard node.kind == .mapping else {
            return fail(node.line, nil, nil, "this is no Kubernetes object; it must have apiVersion, kind and metadata")
        }
        var reader = YAMLValueReader(node)
        let header: ObjectHeader
        do throws(DecodeError) {
            header = try ObjectHeader(reading: &reader)
        } catch {
            return fail(error.line, nil, error.path, error.message)
        }
        guard let kind = header.kind, !kind.isEmpty else {
            return fail(node.line, nil, "kind", "is missing; write for example `kind: Service`")
        }
        if kind.hasSuffix("List"), let items = node["items"] {
            guard items.kind == .sequence else {
                if items.scalar != .null { fail(items.line, kind, "items", "must be a list of objects") }
                return
            }
            for item in items.elements { read(item, &decoder) }
            return
        }
        guard let apiVersion = header.apiVersion, !apiVersion.isEmpty else {
            return fail(node.line, kind, "apiVersion", "is missing; write for example `apiVersion: v1`")
        }
        guard let followed = ObjectKind(apiVersion: apiVersion, kind: kind) else {
            if readsTemplates, template(apiVersion, kind, node, &decoder) { return }
            let full = "\(kind.prefix(80)) (\(apiVersion.prefix(80)))"
            if ignoredKinds.count < 100, ignoredKinds[full] == nil { ignoredKinds[full] = node.line }
            return
        }
        decode(followed, node, header.id(defaultNamespace: decoder.options.defaultNamespace), &decoder)
    }

    /// False: the kind makes no pods, or it cannot be read: whether it is right is not asked.
    private mutating func template(
        _ apiVersion: String, _ kind: String, _ node: YAMLNode, _ decoder: inout ObjectDecoder
    ) -> Bool {
        var reader = YAMLValueReader(node)
        guard let template = try? decoder.podTemplate(apiVersion: apiVersion, kind: kind, from: &reader) else {
            return false
        }
        templates.append(template)
        return true
    }

    private mutating func decode(_ kind: ObjectKind, _ node: YAMLNode, _ id: ObjectID?, _ decoder: inout ObjectDecoder)
    {
        let object: ClusterObject
        do throws(DecodeError) {
            var reader = YAMLValueReader(node)
            object = try decoder.decode(kind, from: &reader)
        } catch {
            if let id { broken.insert(id) } else { hasUnnamedBreakage = true }
            problems.append(
                SourceProblem(
                    location: "\(name):\(error.line)", object: id?.description ?? kind.rawValue,
                    field: error.path.isEmpty ? nil : error.path, message: error.message))
            return
        }
        let id = object.id
        for note in decoder.notes {
            problems.append(
                SourceProblem(
                    location: "\(name):\(note.line)", object: id.description,
                    field: note.path.isEmpty ? nil : note.path, message: note.message, effect: .leftOut))
        }
        if let first = seen[id] {
            problems.append(
                SourceProblem(
                    location: "\(name):\(node.line)", object: id.description,
                    message: "is also on line \(first) of this file, and that one is used; remove one of them",
                    effect: .repeated))
            return
        }
        seen[id] = node.line
        entries.append(Entry(object: object, line: node.line))
    }

    private mutating func fail(_ line: Int, _ object: String?, _ field: String?, _ message: String) {
        hasUnnamedBreakage = true
        problems.append(
            SourceProblem(
                location: "\(name):\(line)", object: object, field: field?.isEmpty == true ? nil : field,
                message: message))
    }
}
