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
    package let user: String
    package let body: String
    package let status: Int
}

struct FakeAnswer: Sendable {
    var code: Int
    var body: String
    var headers: [String: String] = [:]
    /// Of webhooks.
    var warnings: [String] = []

    init(_ code: Int, _ body: String) { (self.code, self.body) = (code, body) }
    /// A Status that says why not.
    init(_ code: Int, _ reason: String, _ message: String, _ headers: [String: String] = [:]) {
        self.code = code
        self.headers = headers
        body =
            #"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#
            + #""message":\#(JSONValue.quoted(message)),"reason":\#(JSONValue.quoted(reason)),"code":\#(code)}"#
    }
}

extension FakeAPIServer {
    package var writes: [FakeWrite] { state.withLock { $0.writes } }
    /// The next writes meet these faults, one each.
    package func failWrites(_ faults: FakeFault...) { state.withLock { $0.writeFaults += faults } }
    /// An object as it is stored, at its path.
    package func stored(_ path: String) -> String? {
        guard let target = FakeTarget(path: path) else { return nil }
        return state.withLock { $0.objects[target.resource]?[target.key]?.json(target.resource) }
    }
    /// As if somebody had written it just so.
    package func store(_ path: String, _ json: String) {
        guard let target = FakeTarget(path: path), let object = JSONValue(json) else { return }
        state.withLock { _ = keep(object, at: target, &$0) }
    }

    /// nil: no answer.
    func write(_ request: FakeRequest, _ target: FakeTarget, _ body: String, _ user: FakeUser, _ state: inout State)
        -> FakeAnswer?
    {
        let answer: FakeAnswer
        switch state.writeFaults.isEmpty ? nil : state.writeFaults.removeFirst() {
        case .silence: return nil
        case .status(let code, let reason, let message, let headers):
            answer = FakeAnswer(code, reason, message, headers)
        default: answer = perform(request, target, JSONValue(body) ?? .object([:]), user, &state)
        }
        state.writes.append(
            FakeWrite(
                verb: request.method, path: request.path, query: request.query,
                client: request.headers["user-agent"] ?? "", user: user.name, body: body, status: answer.code))
        return answer
    }

    func perform(
        _ request: FakeRequest, _ target: FakeTarget, _ sent: JSONValue, _ user: FakeUser, _ state: inout State
    ) -> FakeAnswer {
        if target.resource == .tokenreviews { return review(sent, state) }
        let isStatus = target.subresource == "status"
        guard isStatus ? target.resource.hasStatus : target.subresource.isEmpty else {
            return FakeAnswer(404, "NotFound", "the server could not find the requested resource")
        }
        let manager = FieldManager(request.manager, request.isApply ? "Apply" : "Update", target)
        if request.method == "POST" { return create(target, sent, manager, &state) }
        guard !target.name.isEmpty else {
            return FakeAnswer(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        }
        let old = state.objects[target.resource]?[target.key]?.value(target.resource)
        if let refusal = precondition(request, target, sent, old) { return refusal }
        guard let old else {
            if let refusal = authorize(FakeAction("create", target), user, state.roles, &state) {
                return refusal.answer
            }
            let new = request.isApply ? JSONValue.object([:]).applying(sent, by: manager, force: true) : nil
            return FakeAnswer(201, keep((try? new?.get()) ?? sent.owned(by: manager, after: nil), at: target, &state))
        }
        switch (request.method, request.headers["content-type"]) {
        case ("DELETE", _):
            remove(target.resource, target.key, &state)
            return FakeAnswer(200, #"{"kind":"Status","apiVersion":"v1","status":"Success"}"#)
        case ("PUT", _): return replace(old, by: sent, target, manager, &state)
        case (_, "application/merge-patch+json"): return replace(old, by: old.merged(sent), target, manager, &state)
        case (_, FakeRequest.applyType): return apply(sent, to: old, target, manager, request, &state)
        default: return FakeAnswer(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
        }
    }

    private func apply(
        _ sent: JSONValue, to old: JSONValue, _ target: FakeTarget, _ manager: FieldManager, _ request: FakeRequest,
        _ state: inout State
    ) -> FakeAnswer {
        var half = sent
        // Through one door the other half is not seen.
        for key in sent.members.keys
        where key != "metadata" && target.resource.hasStatus && (key == "status") != (target.subresource == "status") {
            half[key] = nil
        }
        if target.subresource == "status" { half["metadata"] = nil }
        switch old.applying(half, by: manager, force: request.query["force"] == "true") {
        case .failure(let conflict): return FakeAnswer(409, "Conflict", conflict.message)
        case .success(var new):
            new["metadata"]?.takeServerFields(from: old["metadata"])
            return FakeAnswer(200, new == old ? old.json : keep(new, at: target, &state))
        }
    }

    private func create(
        _ target: FakeTarget, _ sent: JSONValue, _ manager: FieldManager, _ state: inout State
    ) -> FakeAnswer {
        var target = target
        target.name = sent["metadata"]?["name"]?.string ?? ""
        guard !target.name.isEmpty else {
            return FakeAnswer(422, "Invalid", "metadata.name: Required value: name or generateName is required")
        }
        guard sent["metadata"]?["namespace"]?.string ?? target.namespace == target.namespace else {
            return FakeAnswer(
                400, "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request")
        }
        guard state.objects[target.resource]?[target.key] == nil else {
            return FakeAnswer(409, "AlreadyExists", "\(target.quotedName) already exists")
        }
        var object = sent
        if target.resource.hasStatus { object["status"] = nil }
        return FakeAnswer(201, keep(object.owned(by: manager, after: nil), at: target, &state))
    }

    /// nil: the object is the one that is meant.
    private func precondition(
        _ request: FakeRequest, _ target: FakeTarget, _ sent: JSONValue, _ old: JSONValue?
    ) -> FakeAnswer? {
        let isMade = target.subresource.isEmpty && (request.isApply || target.resource.isCreatedOnUpdate)
        let wanted = request.method == "DELETE" ? sent["preconditions"] : sent["metadata"]
        let version = wanted?["resourceVersion"]?.string
        guard let old else {
            return request.method == "DELETE" || request.method == "PATCH" && !request.isApply || !isMade
                ? notFound(target) : nil
        }
        if request.isApply, request.query["fieldManager"] == nil {
            return FakeAnswer(
                422, "Invalid", "PatchOptions is invalid: fieldManager: Required value: is required for apply patch")
        }
        if request.isApply, wanted?["managedFields"] != nil {
            return FakeAnswer(400, "BadRequest", "metadata.managedFields must be nil")
        }
        if request.method == "PUT", version == nil, target.resource.isCustom {
            return FakeAnswer(
                422, "Invalid",
                "\(target.quotedName) is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an "
                    + "update")
        }
        let start = "Operation cannot be fulfilled on \(target.quotedName): "
        if let uid = wanted?["uid"]?.string, let theirs = old["metadata"]?["uid"]?.string, uid != theirs {
            return FakeAnswer(
                409, "Conflict",
                "\(start)Precondition failed: UID in precondition: \(uid), UID in object meta: \(theirs)")
        }
        guard version == nil || version == old["metadata"]?["resourceVersion"]?.string else {
            return FakeAnswer(
                409, "Conflict",
                "\(start)the object has been modified; please apply your changes to the latest version and try again")
        }
        return nil
    }

    /// What changes through this door; nothing is told when nothing does.
    private func replace(
        _ old: JSONValue, by sent: JSONValue, _ target: FakeTarget, _ manager: FieldManager, _ state: inout State
    ) -> FakeAnswer {
        let isStatus = target.subresource == "status"
        var new = sent
        for key in Set(old.members.keys).union(new.members.keys)
        where key != "metadata" && target.resource.hasStatus && (key == "status") != isStatus {
            new[key] = old[key]
        }
        if isStatus { new["metadata"] = old["metadata"] }
        new["metadata"]?.takeServerFields(from: old["metadata"])
        new.managers = old.managers
        guard new != old else { return FakeAnswer(200, old.json) }
        return FakeAnswer(200, keep(new.owned(by: manager, after: old), at: target, &state))
    }

    /// As JSON.
    private func keep(_ object: JSONValue, at target: FakeTarget, _ state: inout State) -> String {
        let old = state.objects[target.resource]?[target.key]
        state.version += 1
        var metadata = object["metadata"] ?? .object([:])
        metadata["name"] = .text(target.name)
        metadata["namespace"] = target.namespace.isEmpty ? nil : .text(target.namespace)
        metadata["resourceVersion"] = .text("\(state.version)")
        metadata["uid"] = old.map { .text($0.uid) } ?? metadata["uid"] ?? .text("uid-\(state.version)")
        metadata["creationTimestamp"] = metadata["creationTimestamp"] ?? creationTimestamp(state)
        if target.resource.isCustom {
            let isChanged = old?.value(target.resource)?["spec"] != object["spec"]
            metadata["generation"] = .number(Int64((old?.generation ?? 0) + (old == nil || isChanged ? 1 : 0)))
        }
        var kept = object
        kept["metadata"] = metadata
        let new = FakeObject(kept)
        state.objects[target.resource, default: [:]][target.key] = new
        tell(&state, target.resource, Event(version: state.version, new: new, old: old))
        return new.json(target.resource)
    }
    /// Whatever is made later is younger, whatever the clock says.
    func creationTimestamp(_ state: State) -> JSONValue {
        func digits(_ number: Int) -> String { String("\(100 + number)".dropFirst()) }
        let version = state.version
        return .text("2026-01-01T\(digits(version / 3600 % 24)):\(digits(version / 60 % 60)):\(digits(version % 60))Z")
    }
    func notFound(_ target: FakeTarget) -> FakeAnswer {
        FakeAnswer(404, "NotFound", "\(target.quotedName) not found")
    }
}

extension JSONValue {
    /// Nobody else writes them.
    fileprivate mutating func takeServerFields(from old: JSONValue?) {
        for key in ["name", "namespace", "resourceVersion", "uid", "generation", "creationTimestamp"] {
            self[key] = old?[key]
        }
    }
}

extension FakeRequest {
    static let applyType = "application/apply-patch+yaml"
    fileprivate var isApply: Bool { method == "PATCH" && headers["content-type"] == Self.applyType }
    /// Who says nothing is called as his program is.
    fileprivate var manager: String {
        query["fieldManager"] ?? headers["user-agent"]?.split(separator: "/").first.map(String.init) ?? "unknown"
    }
}
