/// Why an API server did not do what was asked, in the ways that lead to different next steps.

package enum WriteOutcome: Equatable, Sendable {
    case written(resourceVersion: String)
    /// The object was so already.
    case unchanged(resourceVersion: String)
    case failed(APIFailure)
}

package enum APIFailure: Error, Equatable, Sendable {
    /// The object has another version, exists already, or another manager has the field: read it again.
    case conflict(String)
    case gone
    /// A role must be changed first.
    case forbidden(String)
    case throttled(String, retryAfter: Duration?)
    case tooLarge(String)
    /// The same will never be taken.
    case refused(String)
    /// Nobody knows whether it was done.
    case trouble(String)
    /// This replica does not lead any more; nothing was done.
    case fenced

    init(_ status: APIStatus, verb: String, _ object: ObjectAddress, _ part: ObjectWrite.Part = .object) {
        var status = status
        // Whoever checks what is written may quote it: a Secret's values, or a token, must not come to a log.
        if ["Secret", "TokenReview"].contains(object.kind) { status.message = "" }
        let said = [status.reason, status.message].filter { !$0.isEmpty }.joined(separator: ", ")
        let prefix =
            "the API server answered \(verb) of \(object) with \(status.code)\(said.isEmpty ? "" : ": \(said)")"
        switch status.code {
        case 403: self = .forbidden(Self.forbiddenMessage(status, verb, object, part))
        case 404, 410: self = .gone
        case 409: self = .conflict(prefix)
        case 413: self = .tooLarge("\(prefix); the object is larger than the server takes")
        case 429: self = .throttled("the API server \(status.sentence)", retryAfter: status.retryAfter)
        case 400, 405, 415, 422: self = .refused(prefix)
        default: self = .trouble("the API server \(status.sentence)")
        }
    }

    private static func forbiddenMessage(
        _ status: APIStatus, _ verb: String, _ object: ObjectAddress, _ part: ObjectWrite.Part
    ) -> String {
        let resource = object.plural + (part == .status ? "/status" : "")
        let group = object.group.isEmpty ? "\"\" (core)" : object.group
        let place = object.namespace.isEmpty ? "" : " in namespace \(object.namespace)"
        return "the API server forbids to \(verb) \(resource)\(place) (403); allow the verb \(verb) on resource "
            + "\(resource) of API group \(group) in a ClusterRole bound to the controller's ServiceAccount"
            + (status.message.isEmpty ? "" : "; it said: \(status.message)")
    }

    package var sentence: String {
        switch self {
        case .conflict(let text), .forbidden(let text), .throttled(let text, _), .tooLarge(let text),
            .refused(let text), .trouble(let text):
            text
        case .gone: "the object is gone"
        case .fenced: "this replica does not lead any more"
        }
    }
}
