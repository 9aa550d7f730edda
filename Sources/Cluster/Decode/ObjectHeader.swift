/// What an object says of itself, read before deciding how to decode it. Nothing here is refused: a document that is
/// broken further down must still be known by name, so that its last good version can stay in force.

package struct ObjectHeader: Sendable {
    package private(set) var apiVersion: String?
    package private(set) var kind: String?
    package private(set) var name: String?
    package private(set) var namespace: String?

    package init(reading reader: inout some Reader) throws(DecodeError) {
        guard reader.kind == .object else {
            try reader.skip()
            return
        }
        try reader.readObject { (reader, key) throws(DecodeError) in
            switch key {
            case "apiVersion": apiVersion = try text(&reader)
            case "kind": kind = try text(&reader)
            case "metadata" where reader.kind == .object:
                try reader.readObject { (reader, key) throws(DecodeError) in
                    switch key {
                    case "name": name = try text(&reader)
                    case "namespace": namespace = try text(&reader)
                    default: try reader.skip()
                    }
                }
            default: try reader.skip()
            }
        }
    }

    /// The object's identity; nil if it is of no kind we follow or has no name.
    package func id(defaultNamespace: String?) -> ObjectID? {
        guard let apiVersion, let kind = kind.flatMap({ ObjectKind(apiVersion: apiVersion, kind: $0) }),
            let name, !name.isEmpty
        else { return nil }
        guard kind.isNamespaced else { return ObjectID(kind, ObjectName("", name)) }
        let given = namespace.flatMap { $0.isEmpty ? nil : $0 }
        return (given ?? defaultNamespace).map { ObjectID(kind, ObjectName($0, name)) }
    }
}

private func text(_ reader: inout some Reader) throws(DecodeError) -> String? {
    guard reader.kind == .string else {
        try reader.skip()
        return nil
    }
    return try reader.readString()
}
