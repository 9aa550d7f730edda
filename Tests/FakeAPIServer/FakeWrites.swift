/// Objects that clients of the fake API server write: resource versions, conflicts, merge patches, the status
/// subresource, generations; and a log of who wrote what.
import NIOCore
import NIOHTTP1
import Synchronization

/// One write that was done, or was not.
package struct FakeWrite: Sendable {
    package let verb: String
    package let path: String
    package let query: [String: String]
    package let client: String
    package let body: String
    package let status: Int
}

extension FakeAPIServer {
    package var writes: [FakeWrite] { state.withLock { $0.writes } }
    /// The next writes meet these faults, one each.
    package func failWrites(_ faults: FakeFault...) { state.withLock { $0.writeFaults += faults } }
    /// An object as it is stored, at its path.
    package func stored(_ path: String) -> String? { state.withLock { $0.written[path] } }
    package func store(_ path: String, _ json: String) {
        state.withLock { state in
            var object = parse(json)
            _ = keep(&object, at: path, &state)
        }
    }

    /// nil: no such object.
    func readWritten(_ path: String, _ state: State) -> String? { state.written[path] }

    func write(
        _ method: HTTPMethod, _ request: FakeRequest, _ body: String, _ state: inout State
    ) -> (code: Int, body: String, headers: [String: String])? {
        var result: (code: Int, body: String, headers: [String: String])
        switch state.writeFaults.isEmpty ? nil : state.writeFaults.removeFirst() {
        case .silence: return nil
        case .status(let code, let reason, let message, let headers):
            result = (code, status(code, reason, message), headers)
        default:
            let (code, text) = perform(method, request.path, parse(body), &state)
            result = (code, text, [:])
        }
        state.writes.append(
            FakeWrite(
                verb: method.rawValue, path: request.path, query: request.query,
                client: request.headers["user-agent"] ?? "", body: body, status: result.code))
        return result
    }

    private func perform(
        _ method: HTTPMethod, _ path: String, _ sent: JSONValue, _ state: inout State
    ) -> (Int, String) {
        let metadata = sent["metadata"] ?? .object([:])
        if method == .POST {
            let place = "\(path)/\(metadata["name"]?.string ?? "")"
            guard state.written[place] == nil else { return (409, status(409, "AlreadyExists", "it exists")) }
            var object = sent
            return (201, keep(&object, at: place, &state))
        }
        let isStatus = path.hasSuffix("/status")
        let place = isStatus ? String(path.dropLast(7)) : path
        guard let old = state.written[place].map(parse) else { return (404, status(404, "NotFound", "not found")) }
        let oldMetadata = old["metadata"] ?? .object([:])
        let preconditions = (method == .DELETE ? sent["preconditions"] : metadata) ?? .object([:])
        if let version = preconditions["resourceVersion"]?.string,
            version != oldMetadata["resourceVersion"]?.string
        {
            return (409, status(409, "Conflict", "the object has been modified"))
        }
        if method == .DELETE {
            state.written[place] = nil
            return (200, #"{"kind":"Status","apiVersion":"v1","status":"Success"}"#)
        }
        var new = method == .PUT ? sent : old.merged(sent)
        // Each half is written through its own door only.
        for key in Set(old.members.keys).union(new.members.keys)
        where key != "metadata" && (key == "status") != isStatus {
            new[key] = old[key]
        }
        if isStatus { new["metadata"] = oldMetadata }
        var kept = new["metadata"] ?? .object([:])
        for key in ["resourceVersion", "uid", "generation"] { kept[key] = oldMetadata[key] }
        new["metadata"] = kept
        guard new != old else { return (200, old.json) }
        return (200, keep(&new, at: place, &state, specChanged: new["spec"] != old["spec"]))
    }

    private func keep(
        _ object: inout JSONValue, at path: String, _ state: inout State, specChanged: Bool = true
    ) -> String {
        state.version += 1
        var metadata = object["metadata"] ?? .object([:])
        metadata["resourceVersion"] = .text("\(state.version)")
        metadata["uid"] = metadata["uid"] ?? .text("uid-\(state.version)")
        metadata["generation"] = .number((metadata["generation"]?.integer ?? 0) + (specChanged ? 1 : 0))
        object["metadata"] = metadata
        let json = object.json
        state.written[path] = json
        return json
    }

    private func parse(_ json: String) -> JSONValue { JSONValue(json) ?? .object([:]) }
    private func status(_ code: Int, _ reason: String, _ message: String) -> String {
        #"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"\#(message)","#
            + #""reason":"\#(reason)","code":\#(code)}"#
    }
}
