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
    package func stored(_ path: String) -> String? { state.withLock { readWritten(path, $0) } }
    package func store(_ path: String, _ json: String) {
        state.withLock { state in
            var object = parse(json)
            _ = keep(&object, at: path, &state)
        }
    }

    /// nil: no such object.
    func readWritten(_ path: String, _ state: State) -> String? { state.written[path] ?? object(at: path, state) }

    /// The kind that is listed and watched to which the object at the path belongs.
    private func place(_ path: String) -> (resource: FakeResource, namespace: String, name: String)? {
        let parts = path.split(separator: "/").map(String.init)
        guard parts.count >= 4, let resource = FakeResource(rawValue: parts[parts.count - 2]) else { return nil }
        return (resource, parts[parts.count - 4] == "namespaces" ? parts[parts.count - 3] : "", parts[parts.count - 1])
    }
    /// A single object, at `.../namespaces/NAMESPACE/RESOURCE/NAME` or `.../RESOURCE/NAME`.
    private func object(at path: String, _ state: State) -> String? {
        guard let place = place(path) else { return nil }
        return state.objects[place.resource]?["\(place.namespace)/\(place.name)"]?.json(place.resource)
    }

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
            guard readWritten(place, state) == nil else { return (409, status(409, "AlreadyExists", "it exists")) }
            var object = sent
            return (201, keep(&object, at: place, &state))
        }
        let isStatus = path.hasSuffix("/status")
        let place = isStatus ? String(path.dropLast(7)) : path
        guard let old = readWritten(place, state).map(parse) else { return (404, status(404, "NotFound", "not found")) }
        let oldMetadata = old["metadata"] ?? .object([:])
        let preconditions = (method == .DELETE ? sent["preconditions"] : metadata) ?? .object([:])
        if let version = preconditions["resourceVersion"]?.string,
            version != oldMetadata["resourceVersion"]?.string
        {
            return (409, status(409, "Conflict", "the object has been modified"))
        }
        if method == .DELETE {
            state.written[place] = nil
            if let known = self.place(place) { remove(known.resource, "\(known.namespace)/\(known.name)", &state) }
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
        guard let place = place(path) else {
            state.written[path] = object.json
            return object.json
        }
        var known = FakeObject(place.namespace, place.name)
        known.labels = (metadata["labels"]?.members ?? [:]).compactMapValues(\.string)
        let others = metadata.members.filter {
            !["name", "namespace", "uid", "resourceVersion", "labels"].contains($0.key)
        }
        known.moreMetadata = others.map { "\"\($0.key)\":\($0.value.json)" }.sorted().joined(separator: ",")
        known.body = object.members.filter { !["kind", "apiVersion", "metadata"].contains($0.key) }
            .map { "\"\($0.key)\":\($0.value.json)" }.sorted().joined(separator: ",")
        state.version -= 1
        put(place.resource, [known], &state)
        return known.json(place.resource).replacing(
            #""resourceVersion":"0""#, with: "\"resourceVersion\":\"\(state.version)\"")
    }

    private func parse(_ json: String) -> JSONValue { JSONValue(json) ?? .object([:]) }
    private func status(_ code: Int, _ reason: String, _ message: String) -> String {
        #"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"\#(message)","#
            + #""reason":"\#(reason)","code":\#(code)}"#
    }
}
