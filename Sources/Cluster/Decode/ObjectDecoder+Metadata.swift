/// `metadata`, and the small values all kinds share: addresses, prefixes, ports, times.
import Addressing

extension ObjectDecoder {
    struct Metadata {
        var name: ObjectName
        var labels: [String: String] = [:]
        /// Seconds since 1970, 0 when unknown.
        var creationTime: Int64 = 0
        var hasDeletionTimestamp = false
        var lastChangeTriggerTime: Double?
        /// Those that begin with `heddle.io/`, of a Namespace which other mesh it is for, and of a policy whether it is
        /// a dry run.
        var annotations: [String: String] = [:]
        /// The owner that controls it: kind and name.
        var owner: (kind: String, name: String)?
        var uid: String?
        /// Its own names and numbers, where they are kept.
        var record = RouteRecord()
    }
    enum LabelChoice {
        case all
        /// Those that change how a service is handled.
        case ours
    }

    /// Reads an object's `metadata` and hands every other field to `body`.
    mutating func object<R: Reader>(
        _ reader: inout R, isNamespaced: Bool, labels: LabelChoice,
        _ body: (inout ObjectDecoder, inout R, FieldKey) throws(DecodeError) -> Void
    ) throws(DecodeError) -> Metadata {
        var metadata: Metadata?
        let line = reader.line
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "metadata": metadata = try self.metadata(&reader, isNamespaced: isNamespaced, labels: labels)
            default: try body(&self, &reader, key)
            }
        }
        guard let metadata else {
            throw DecodeError("is missing; every object needs a name", path: "metadata.name", line: line)
        }
        return metadata
    }

    private mutating func metadata(
        _ reader: inout some Reader, isNamespaced: Bool, labels: LabelChoice
    ) throws(DecodeError) -> Metadata {
        let line = reader.line
        var metadata = Metadata(name: ObjectName("", ""))
        var name = ""
        var namespace = ""
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "name": name = try objectName(&reader)
            case "namespace": namespace = try objectName(&reader)
            case "labels": metadata.labels = try self.labels(&reader, labels)
            case "creationTimestamp":
                metadata.creationTime = Int64(try time(&reader, "metadata.creationTimestamp") ?? 0)
            case "deletionTimestamp":
                metadata.hasDeletionTimestamp = true
                try reader.skip()
            case "annotations": try annotations(&reader, &metadata, isOfNamespace: !isNamespaced)
            case "ownerReferences":
                try reader.elements { (reader, _) throws(DecodeError) in
                    metadata.owner = try controller(&reader) ?? metadata.owner
                }
            case "uid" where options.keepsPodIdentities: metadata.uid = try reader.string()
            case _ where options.keepsRouteRecords:
                switch key {
                case "resourceVersion": metadata.record.resourceVersion = try reader.string()
                case "generation": metadata.record.generation = try reader.int()
                default: try reader.skip()
                }
            default: try reader.skip()
            }
        }
        if name.isEmpty { name = options.defaultName ?? "" }
        guard !name.isEmpty else {
            throw DecodeError("is missing; every object needs a name", path: "name", line: line)
        }
        if !isNamespaced {
            namespace = ""
        } else if namespace.isEmpty {
            guard let standard = options.defaultNamespace else {
                throw DecodeError("is missing; this kind lives in a namespace", path: "namespace", line: line)
            }
            namespace = standard
        }
        metadata.name = ObjectName(interner.intern(namespace), name)
        return metadata
    }

    private mutating func labels(
        _ reader: inout some Reader, _ choice: LabelChoice
    ) throws(DecodeError) -> [String: String] {
        switch choice {
        case .all:
            let labels = try reader.stringMap()
            return Dictionary(uniqueKeysWithValues: labels.map { (interner.intern($0), $1) })
        case .ours:
            return try reader.stringMap { key in
                switch key {
                case "kubernetes.io/service-name", "service.kubernetes.io/service-proxy-name",
                    "service.kubernetes.io/headless":
                    true
                default: false
                }
            }
        }
    }

    private mutating func annotations(
        _ reader: inout some Reader, _ metadata: inout Metadata, isOfNamespace: Bool
    ) throws(DecodeError) {
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "endpoints.kubernetes.io/last-change-trigger-time":
                metadata.lastChangeTriggerTime = try time(
                    &reader, "metadata.annotations[\"endpoints.kubernetes.io/last-change-trigger-time\"]")
            case "linkerd.io/inject" where isOfNamespace: metadata.annotations[key.string] = try reader.string()
            case "istio.io/dry-run" where !isOfNamespace: metadata.annotations[key.string] = try reader.string()
            case _ where key.hasPrefix("heddle.io/"):
                metadata.annotations[key.string] = try reader.string()
            default: try reader.skip()
            }
        }
    }

    /// nil for an owner that does not control the object.
    private mutating func controller(_ reader: inout some Reader) throws(DecodeError) -> (kind: String, name: String)? {
        var owner = (kind: "", name: "")
        var isController = false
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "kind": owner.kind = interner.intern(try reader.string())
            case "name": owner.name = interner.intern(try reader.string())
            case "controller": isController = try reader.bool()
            default: try reader.skip()
            }
        }
        return isController ? owner : nil
    }

    /// A time that cannot be read decides nothing that matters: it is noted and counts as unknown.
    private mutating func time(_ reader: inout some Reader, _ path: String)
        throws(DecodeError) -> Double?
    {
        let line = reader.line
        let text = try reader.string()
        guard let seconds = Timestamp.seconds(text) else {
            note("\(quoted(text)) is not a time like 2026-01-31T12:00:00Z and is ignored", path: path, line: line)
            return nil
        }
        return seconds
    }

    /// The name of an object or namespace: it becomes a key, a file name and part of log lines, so it may only hold
    /// what Kubernetes allows.
    private func objectName(_ reader: inout some Reader) throws(DecodeError)
        -> String
    {
        let line = reader.line
        let name = try reader.string()
        let isAllowed = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
                UInt8(ascii: "."):
                true
            default: false
            }
        }
        guard isAllowed, name.utf8.count <= 253 else {
            throw DecodeError(
                "\(quoted(name)) is not allowed; use up to 253 lower-case letters, digits, '-' and '.'", line: line)
        }
        return name
    }
}

extension ValueReader where Self: ~Copyable, Self: ~Escapable {
    mutating func address() throws(DecodeError) -> IPAddress {
        let line = line
        let text = try string()
        guard let address = IPAddress(text.trimmed) else {
            throw DecodeError(
                "\(quoted(text)) is not an IP address; write it like 10.0.0.1 or fd00::1", line: line)
        }
        return address
    }
    /// Spaces around it are accepted (spec row 38).
    mutating func prefix() throws(DecodeError) -> IPPrefix {
        let line = line
        let text = try string()
        guard let prefix = IPPrefix(text) else {
            throw DecodeError(
                "\(quoted(text)) is not an address range; write it like 10.0.0.0/8 or fd00::/64", line: line)
        }
        return prefix
    }
    mutating func port() throws(DecodeError) -> UInt16 {
        let line = line
        guard let port = try optionalPort() else { throw DecodeError("0 is no port; use 1 to 65535", line: line) }
        return port
    }
    /// nil for 0, which the API uses for "none" in some fields.
    mutating func optionalPort() throws(DecodeError) -> UInt16? {
        let line = line
        let value = try int()
        guard let port = UInt16(exactly: value) else {
            throw DecodeError("\(value) is no port; use 1 to 65535", line: line)
        }
        return port == 0 ? nil : port
    }
    mutating func transport() throws(DecodeError) -> TransportProtocol {
        let line = line
        let text = try string()
        guard let transport = text.isEmpty ? .tcp : TransportProtocol(text) else {
            throw DecodeError("\(quoted(text)) is unknown; use TCP, UDP or SCTP", line: line)
        }
        return transport
    }
}
