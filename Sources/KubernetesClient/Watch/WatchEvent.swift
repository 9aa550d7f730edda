/// One line of a watch, read in place.
import PullJSON

/// What must be known of an object even where it cannot be decoded.
struct ObjectHead: Equatable, Sendable {
    var namespace = ""
    var name = ""
    var resourceVersion = ""
    /// Annotation `k8s.io/initial-events-end`: with this bookmark a streamed list is complete.
    var isInitialEventsEnd = false

    init() {}

    /// Reads no further than to the end of `metadata`, which API servers write first.
    init(reading start: borrowing JSONReader) throws(JSONError) {
        var reader = copy start
        try reader.enterObject()
        while let key = try reader.nextKey() {
            guard reader.text(of: key) == "metadata" else {
                try reader.skipValue()
                continue
            }
            try readMetadata(&reader)
            return
        }
    }

    private mutating func readMetadata(_ reader: inout JSONReader) throws(JSONError) {
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch reader.text(of: key) {
            case "name" where reader.token == .string: name = try reader.readText()
            case "namespace" where reader.token == .string: namespace = try reader.readText()
            case "resourceVersion" where reader.token == .string: resourceVersion = try reader.readText()
            case "annotations" where reader.token == .object: try readAnnotations(&reader)
            default: try reader.skipValue()
            }
        }
    }

    private mutating func readAnnotations(_ reader: inout JSONReader) throws(JSONError) {
        try reader.enterObject()
        while let key = try reader.nextKey() {
            if reader.text(of: key) == "k8s.io/initial-events-end", reader.token == .string {
                isInitialEventsEnd = try reader.readText() == "true"
            } else {
                try reader.skipValue()
            }
        }
    }
}

enum WatchEventType: String {
    case added = "ADDED"
    case modified = "MODIFIED"
    case deleted = "DELETED"
    case bookmark = "BOOKMARK"
    case error = "ERROR"
}

/// An event's type and the reader before its object.
struct WatchEventFrame: ~Escapable {
    /// nil: a type we do not know, to be passed over.
    let type: WatchEventType?
    let object: JSONReader

    @_lifetime(copy line)
    init(reading line: Span<UInt8>) throws(JSONError) {
        var reader = JSONReader(line)
        var type: String?
        var object: JSONReader?
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch reader.text(of: key) {
            case "type": type = try reader.readText()
            case "object":
                object = reader
                // What follows the object is only looked at where the type does.
                if type != nil {
                    self.init(type: type, object: reader)
                    return
                }
                try reader.skipValue()
            default: try reader.skipValue()
            }
        }
        try reader.finish()
        guard let type, let object else { throw JSONError("an event needs type and object", at: reader.offset) }
        self.init(type: type, object: object)
    }

    @_lifetime(copy object)
    private init(type: String?, object: JSONReader) {
        self.type = type.flatMap(WatchEventType.init)
        self.object = object
    }
}
