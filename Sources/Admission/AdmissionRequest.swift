/// What the API server asks before it takes an object: an AdmissionReview of admission.k8s.io/v1. Its fields may come
/// in any order, and the object can only be read once it is known of what kind it is: the text is read twice.
package import Cluster
import PullJSON
import Validation

package struct AdmissionRequest: Sendable {
    package enum Operation: String, Sendable {
        case create = "CREATE"
        case update = "UPDATE"
        case delete = "DELETE"
        case connect = "CONNECT"
    }
    package let uid: String
    package let operation: Operation
    /// `HTTPRoute`, by the API's name, whatever kind it is.
    package let kindName: String
    /// nil: not a kind that is judged.
    package let kind: ObjectKind?
    package let namespace: String
    package let name: String
    /// Of `…/status` and the like: the object itself is not asked about.
    package let isOfSubresource: Bool
    /// Nothing of it will be kept.
    package let isDryRun: Bool
    /// As it shall be; nil: there is none, as with DELETE.
    package let object: AskedObject?
    /// As it was.
    package let oldObject: AskedObject?

    /// An API server takes objects of up to 3 MiB, and an UPDATE has two.
    package static let maximumBytes = 8 << 20
    private static let maximumText = 256

    package init(reading bytes: [UInt8]) throws(AdmissionError) {
        guard bytes.count <= Self.maximumBytes else {
            throw AdmissionError("the request has more than \(Self.maximumBytes) bytes")
        }
        let head = try Head(bytes)
        guard let uid = head.texts["uid"], !uid.isEmpty else { throw AdmissionError("request.uid is missing") }
        guard let operation = head.texts["operation"].flatMap(Operation.init) else {
            throw AdmissionError("request.operation is none of CREATE, UPDATE, DELETE and CONNECT")
        }
        if let long = (head.texts.merging(head.kind) { first, _ in first }).first(where: {
            $0.value.utf8.count > Self.maximumText
        }) {
            throw AdmissionError("request.\(long.key) has more than \(Self.maximumText) bytes")
        }
        (self.uid, self.operation) = (uid, operation)
        namespace = head.texts["namespace"] ?? ""
        name = head.texts["name"] ?? ""
        isOfSubresource = head.texts["subResource"].map { !$0.isEmpty } ?? false
        isDryRun = head.isDryRun
        kindName = head.kind["kind"] ?? ""
        let group = head.kind["group"] ?? ""
        let version = head.kind["version"] ?? ""
        kind = ObjectKind(apiVersion: group.isEmpty ? version : "\(group)/\(version)", kind: kindName)
        let isJudged = !isOfSubresource && (operation == .create || operation == .update)
        guard isJudged, let kind else {
            (object, oldObject) = (nil, nil)
            return
        }
        let objects = try Objects(bytes, kind, defaultNamespace: namespace)
        guard let object = objects.new else { throw AdmissionError("request.object is missing") }
        self.object = object
        oldObject = operation == .update ? objects.old : nil
    }
}

/// Why a request cannot be answered, as the end of a sentence.
package struct AdmissionError: Error, Equatable, CustomStringConvertible {
    package let description: String
    init(_ description: String) { self.description = description }
}

/// An object of a request, as far as it can be read.
package struct AskedObject: Sendable {
    package let content: Result<ClusterObject, DecodeError>
    /// Parts that were left out.
    package let notes: [DecodeNote]
    /// It waits for its finalizers.
    package let isBeingDeleted: Bool
    /// Of a route: one of its parents is a Service. True of other kinds.
    package let isOfServices: Bool
}

/// All but the objects.
private struct Head {
    var texts: [String: String] = [:]
    var kind: [String: String] = [:]
    var isDryRun = false

    init(_ bytes: [UInt8]) throws(AdmissionError) {
        var reader = JSONReader(bytes.span)
        var apiVersion = ""
        var hasRequest = false
        do throws(DecodeError) {
            try reader.members { (reader, key) throws(DecodeError) in
                switch key {
                case "apiVersion": apiVersion = try reader.text() ?? ""
                case "request":
                    (texts, kind, isDryRun) = ([:], [:], false)
                    hasRequest = reader.kind == .object
                    try reader.members { (reader, key) throws(DecodeError) in try read(key, &reader) }
                default: try reader.skip()
                }
            }
            do throws(JSONError) { try reader.finish() } catch { throw DecodeError(error.description, line: 1) }
        } catch {
            throw AdmissionError(error.message)
        }
        guard apiVersion == "admission.k8s.io/v1" else {
            throw AdmissionError("it is no AdmissionReview of admission.k8s.io/v1")
        }
        guard hasRequest else { throw AdmissionError("request is missing") }
    }

    private mutating func read(_ key: FieldKey, _ reader: inout JSONReader) throws(DecodeError) {
        switch key {
        case "uid", "operation", "namespace", "name", "subResource": texts[key.string] = try reader.text()
        case "kind":
            try reader.members { (reader, key) throws(DecodeError) in
                switch key {
                case "group", "version", "kind": kind[key.string] = try reader.text()
                default: try reader.skip()
                }
            }
        case "dryRun" where reader.kind == .bool: isDryRun = try reader.readBool()
        default: try reader.skip()
        }
    }
}

private struct Objects {
    var new: AskedObject?
    var old: AskedObject?

    init(_ bytes: [UInt8], _ kind: ObjectKind, defaultNamespace: String) throws(AdmissionError) {
        var reader = JSONReader(bytes.span)
        do throws(DecodeError) {
            try reader.members { (reader, key) throws(DecodeError) in
                guard case "request" = key else { return try reader.skip() }
                (new, old) = (nil, nil)
                try reader.members { (reader, key) throws(DecodeError) in
                    switch key {
                    case "object": new = try AskedObject(kind, defaultNamespace, &reader)
                    case "oldObject": old = try AskedObject(kind, defaultNamespace, &reader)
                    default: try reader.skip()
                    }
                }
            }
        } catch {
            throw AdmissionError(error.message)
        }
    }
}

extension AskedObject {
    /// nil for anything but an object.
    fileprivate init?(_ kind: ObjectKind, _ defaultNamespace: String, _ reader: inout JSONReader) throws(DecodeError) {
        guard reader.kind == .object else {
            try reader.skip()
            return nil
        }
        let bytes = try reader.readRaw { (reader) throws(DecodeError) in try reader.skip() }
        let sketch = try Sketch(bytes)
        var options = ObjectDecoder.Options()
        options.defaultNamespace = defaultNamespace.isEmpty ? nil : defaultNamespace
        // Where `generateName` stands the API server may not have made one yet.
        options.defaultName = "(generated)"
        options.unallocatedClusterIPs = ObjectSet.unallocated
        var decoder = ObjectDecoder(options: options)
        var own = JSONReader(bytes.span)
        do throws(DecodeError) {
            content = .success(try decoder.decode(kind, json: &own))
        } catch {
            content = .failure(error)
        }
        notes = decoder.notes
        isBeingDeleted = sketch.isBeingDeleted
        isOfServices = sketch.isOfServices || kind != .httpRoute && kind != .grpcRoute
    }
}

/// What must be known also of an object that cannot be decoded.
private struct Sketch {
    var isBeingDeleted = false
    var isOfServices = false

    init(_ bytes: [UInt8]) throws(DecodeError) {
        var reader = JSONReader(bytes.span)
        try reader.members { (reader, key) throws(DecodeError) in
            switch key {
            case "metadata":
                try reader.members { (reader, key) throws(DecodeError) in
                    if case "deletionTimestamp" = key { isBeingDeleted = reader.kind != .null }
                    try reader.skip()
                }
            case "spec":
                try reader.members { (reader, key) throws(DecodeError) in
                    guard case "parentRefs" = key, reader.kind == .array else { return try reader.skip() }
                    try reader.readArray { (reader) throws(DecodeError) in
                        if try isService(&reader) { isOfServices = true }
                    }
                }
            default: try reader.skip()
            }
        }
    }

    private func isService(_ reader: inout JSONReader) throws(DecodeError) -> Bool {
        var (group, kind) = ("gateway.networking.k8s.io", "Gateway")
        try reader.members { (reader, key) throws(DecodeError) in
            switch key {
            case "group": group = try reader.text() ?? group
            case "kind": kind = try reader.text() ?? kind
            default: try reader.skip()
            }
        }
        return group.isEmpty && kind == "Service"
    }
}

extension JSONReader {
    /// Of an object; whatever else is there is passed over.
    fileprivate mutating func members(
        _ body: (inout JSONReader, FieldKey) throws(DecodeError) -> Void
    ) throws(DecodeError) {
        guard kind == .object else { return try skip() }
        try readObject(body)
    }
    /// nil: no text.
    fileprivate mutating func text() throws(DecodeError) -> String? {
        guard kind == .string else {
            try skip()
            return nil
        }
        return try readString()
    }
}
