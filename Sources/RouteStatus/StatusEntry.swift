/// One entry of `status.parents` that is ours: what it says in the object, and what it should say (gateway spec A.2).
import Cluster
import PullJSON

/// A parentRef as the route has it.
struct WrittenParent: Hashable {
    var group = "gateway.networking.k8s.io"
    var kind = "Gateway"
    var namespace: String?
    var name = ""
    var sectionName: String?
    var port: Int64?

    init() {}

    init(_ parent: Route.Parent, namespace: String?) {
        (group, kind) = ("", "Service")
        self.namespace = namespace
        name = parent.service.name
        sectionName = parent.sectionName
        port = parent.port.map(Int64.init)
    }

    var json: [UInt8] {
        var json: [UInt8] = [UInt8(ascii: "{")]
        json.append(field: "group", group)
        json.append(field: "kind", kind)
        if let namespace { json.append(field: "namespace", namespace) }
        json.append(field: "name", name)
        if let sectionName { json.append(field: "sectionName", sectionName) }
        if let port {
            json.append(key: "port")
            json.append(String(port))
        }
        return json + [UInt8(ascii: "}")]
    }
}

struct Condition: Equatable {
    enum Kind: String, CaseIterable {
        // In order of importance, where not all have room.
        case accepted = "Accepted"
        case resolvedRefs = "ResolvedRefs"
        /// Exists only as True.
        case partiallyInvalid = "PartiallyInvalid"
    }
    var kind: Kind
    var isTrue: Bool
    var reason: String
    var message: String

    func json(generation: Int64, since: String) -> [UInt8] {
        var json: [UInt8] = [UInt8(ascii: "{")]
        json.append(field: "type", kind.rawValue)
        json.append(field: "status", isTrue ? "True" : "False")
        json.append(key: "observedGeneration")
        json.append(String(generation))
        json.append(field: "lastTransitionTime", since)
        json.append(field: "reason", reason)
        json.append(field: "message", message)
        return json + [UInt8(ascii: "}")]
    }
}

/// What an entry says now. Fields that cannot be read count as absent, so that the entry is written anew.
struct StoredEntry {
    struct StoredCondition {
        var json: [UInt8] = []
        var type = ""
        var status = ""
        var reason = ""
        var message = ""
        var observedGeneration: Int64 = 0
        var lastTransitionTime = ""

        var kind: Condition.Kind? { Condition.Kind(rawValue: type) }

        func says(_ wanted: Condition, generation: Int64) -> Bool {
            status == (wanted.isTrue ? "True" : "False") && reason == wanted.reason && message == wanted.message
                && observedGeneration == generation && Timestamp.seconds(lastTransitionTime) != nil
        }
    }
    private(set) var parent = WrittenParent()
    private(set) var conditions: [StoredCondition] = []

    init(_ json: [UInt8]) {
        var reader = JSONReader(json.span)
        do throws(JSONError) {
            try object(&reader) { (reader, key) throws(JSONError) in
                switch key {
                case "parentRef": try readParent(&reader)
                case "conditions" where reader.token == .array: try readConditions(&reader)
                default: try reader.skipValue()
                }
            }
        } catch { conditions = [] }
    }

    private mutating func readParent(_ reader: inout JSONReader) throws(JSONError) {
        try object(&reader) { (reader, key) throws(JSONError) in
            switch key {
            case "port" where reader.token == .number: parent.port = try reader.readInteger()
            case _ where reader.token != .string: try reader.skipValue()
            case "group": parent.group = try reader.readText()
            case "kind": parent.kind = try reader.readText()
            case "namespace": parent.namespace = try reader.readText()
            case "name": parent.name = try reader.readText()
            case "sectionName": parent.sectionName = try reader.readText()
            default: try reader.skipValue()
            }
        }
    }

    private mutating func readConditions(_ reader: inout JSONReader) throws(JSONError) {
        try reader.enterArray()
        while try reader.nextElement() {
            var condition = StoredCondition()
            condition.json = try reader.copyingValue { (reader) throws(JSONError) in
                try object(&reader) { (reader, key) throws(JSONError) in
                    switch key {
                    case "observedGeneration" where reader.token == .number:
                        condition.observedGeneration = try reader.readInteger() ?? 0
                    case _ where reader.token != .string: try reader.skipValue()
                    case "type": condition.type = try reader.readText()
                    case "status": condition.status = try reader.readText()
                    case "reason": condition.reason = try reader.readText()
                    case "message": condition.message = try reader.readText()
                    case "lastTransitionTime": condition.lastTransitionTime = try reader.readText()
                    default: try reader.skipValue()
                    }
                }
            }
            conditions.append(condition)
        }
    }
}

private func object(
    _ reader: inout JSONReader, _ body: (inout JSONReader, String) throws(JSONError) -> Void
) throws(JSONError) {
    guard reader.token == .object else { return try reader.skipValue() }
    try reader.enterObject()
    while let key = try reader.nextKey() { try body(&reader, reader.text(of: key)) }
}
