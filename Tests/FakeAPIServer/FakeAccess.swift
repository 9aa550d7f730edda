/// Who asks, and whether roles let him: RBAC, read from the YAML that a chart renders. And TokenReview.
import Synchronization
import YAML

package struct FakeUser: Sendable {
    package static let server = "https://kubernetes.default.svc.cluster.local"
    package var name: String
    package var groups: [String]
    package var uid = ""
    /// `authentication.kubernetes.io/pod-name` and the like.
    package var extra: [String: [String]] = [:]
    /// For whom the token is.
    package var audiences = [server]
    package var isExpired = false

    package init(_ name: String, groups: [String] = []) {
        self.name = name
        self.groups = groups + ["system:authenticated"]
    }
    /// With a pod: the token is bound to it, as those are that kubelets mount.
    package static func serviceAccount(
        _ namespace: String, _ name: String, pod: String? = nil, node: String? = nil
    ) -> FakeUser {
        var user = FakeUser(
            "system:serviceaccount:\(namespace):\(name)",
            groups: ["system:serviceaccounts", "system:serviceaccounts:\(namespace)"])
        user.uid = "uid-of-\(name)"
        for (kind, name) in [("pod", pod), ("node", node)] {
            guard let name else { continue }
            user.extra["authentication.kubernetes.io/\(kind)-name"] = [name]
            user.extra["authentication.kubernetes.io/\(kind)-uid"] = ["uid-of-\(name)"]
        }
        return user
    }
    static var anonymous: FakeUser {
        var user = FakeUser("system:anonymous")
        user.groups = ["system:unauthenticated"]
        return user
    }
}

/// What a request is judged by.
struct FakeAction: Sendable {
    let verb: String
    let target: FakeTarget
    /// Lists and watches of one name are of that name.
    let name: String

    init(_ request: FakeRequest, _ target: FakeTarget) {
        self.target = target
        let isOfOne = !target.name.isEmpty
        let selected = request.query["fieldSelector"]?.split(separator: ",").first { $0.hasPrefix("metadata.name=") }
        name = isOfOne ? target.name : selected.map { String($0.dropFirst("metadata.name=".count)) } ?? ""
        verb =
            switch request.method {
            case "GET": isOfOne ? "get" : request.isWatch ? "watch" : "list"
            case "POST": "create"
            case "PUT": "update"
            case "PATCH": "patch"
            default: isOfOne ? "delete" : "deletecollection"
            }
    }
    init(_ verb: String, _ target: FakeTarget) { (self.verb, self.target, name) = (verb, target, target.name) }

    var resource: String {
        target.resource.rawValue + (target.subresource.isEmpty ? "" : "/\(target.subresource)")
    }
    func refusal(of user: FakeUser) -> FakeAnswer {
        let place = target.namespace.isEmpty ? "at the cluster scope" : "in the namespace \"\(target.namespace)\""
        return FakeAnswer(
            403, "Forbidden",
            "\(target.resource.qualifiedName)\(name.isEmpty ? "" : " \"\(name)\"") is forbidden: User \"\(user.name)\" "
                + "cannot \(verb) resource \"\(resource)\" in API group \"\(target.resource.group)\" \(place)")
    }
}

struct FakeRoles: Sendable {
    private struct Role: Hashable {
        var kind: String
        var namespace: String
        var name: String
    }
    private struct Rule {
        var groups: Set<String>
        var resources: Set<String>
        var verbs: Set<String>
        var names: Set<String>
    }
    private struct Binding {
        /// Empty: of the whole cluster.
        var namespace: String
        var role: Role
        /// `User/name`, `Group/name`
        var subjects: Set<String>
    }
    private var rules: [Role: [Rule]] = [:]
    private var bindings: [Binding] = []

    /// `without`: as if no rule had this verb.
    init(yaml: String, without verb: String?) throws {
        var stream = try YAMLStream(Array(yaml.utf8))
        while let document = stream.next() {
            let root = try document.get().root
            let namespace = root["metadata"]?["namespace"]?.text ?? ""
            switch root["kind"]?.text {
            case "ClusterRole", "Role":
                let role = Role(
                    kind: root["kind"]?.text ?? "", namespace: namespace, name: root["metadata"]?["name"]?.text ?? "")
                rules[role] = root["rules"]?.elements.map {
                    Rule(
                        groups: $0.texts("apiGroups"), resources: $0.texts("resources"),
                        verbs: $0.texts("verbs").subtracting([verb].compactMap(\.self)),
                        names: $0.texts("resourceNames"))
                }
            case "ClusterRoleBinding", "RoleBinding":
                let kind = root["roleRef"]?["kind"]?.text ?? ""
                let role = Role(
                    kind: kind, namespace: kind == "Role" ? namespace : "", name: root["roleRef"]?["name"]?.text ?? "")
                let subjects = root["subjects"]?.elements.map { subject in
                    let name = subject["name"]?.text ?? ""
                    guard subject["kind"]?.text == "ServiceAccount" else {
                        return "\(subject["kind"]?.text ?? "")/\(name)"
                    }
                    return "User/system:serviceaccount:\(subject["namespace"]?.text ?? ""):\(name)"
                }
                bindings.append(Binding(namespace: namespace, role: role, subjects: Set(subjects ?? [])))
            default: break
            }
        }
    }

    func allow(_ action: FakeAction, to user: FakeUser) -> Bool {
        let isHe = Set(["User/\(user.name)"] + user.groups.map { "Group/\($0)" })
        return bindings.contains { binding in
            guard !binding.subjects.isDisjoint(with: isHe),
                binding.namespace.isEmpty || binding.namespace == action.target.namespace
            else { return false }
            return rules[binding.role, default: []].contains { rule in
                func has(_ set: Set<String>, _ value: String) -> Bool { set.contains("*") || set.contains(value) }
                let isResource =
                    has(rule.resources, action.resource)
                    || !action.target.subresource.isEmpty
                        && rule.resources.contains("*/\(action.target.subresource)")
                return isResource && has(rule.groups, action.target.resource.group) && has(rule.verbs, action.verb)
                    && (rule.names.isEmpty || rule.names.contains(action.name))
            }
        }
    }
}

extension YAMLNode {
    fileprivate func texts(_ key: String) -> Set<String> { Set(self[key]?.elements.map(\.text) ?? []) }
}

extension FakeAPIServer {
    /// From now on whoever asks needs a token that is known, and a role that lets him.
    /// `without`: a verb that somebody forgot.
    package func enforce(rbac yaml: String, without verb: String? = nil) throws {
        let roles = try FakeRoles(yaml: yaml, without: verb)
        state.withLock { $0.roles = roles }
    }
    package func know(_ user: FakeUser, by token: String) { state.withLock { $0.users[token] = user } }
    /// What was not granted, each once: `cannot list resource "services" …`.
    package var forbidden: [String] { state.withLock { $0.forbidden } }

    /// The user; or the answer of those who may not.
    func admit(_ request: FakeRequest, _ target: FakeTarget?, _ state: inout State) -> Result<FakeUser, FakeRefusal> {
        let token = request.headers["authorization"]?.split(separator: " ").last.map(String.init)
        let unauthorized = FakeRefusal(answer: FakeAnswer(401, "Unauthorized", "Unauthorized"))
        guard let roles = state.roles else {
            let isKnown = state.options.acceptedTokens.isEmpty || state.options.acceptedTokens.contains(token ?? "")
            return isKnown ? .success(.anonymous) : .failure(unauthorized)
        }
        guard let user = token.map({ state.users[$0] }) ?? .anonymous, !user.isExpired,
            token == nil || user.audiences.contains(FakeUser.server)
        else { return .failure(unauthorized) }
        guard let target else { return .success(user) }
        return authorize(FakeAction(request, target), user, roles, &state).map { .failure($0) } ?? .success(user)
    }
    /// nil: granted.
    func authorize(
        _ action: FakeAction, _ user: FakeUser, _ roles: FakeRoles?, _ state: inout State
    ) -> FakeRefusal? {
        guard let roles, !roles.allow(action, to: user) else { return nil }
        let answer = action.refusal(of: user)
        let sentence = JSONValue(answer.body)?["message"]?.string ?? ""
        if !state.forbidden.contains(sentence) { state.forbidden.append(sentence) }
        return FakeRefusal(answer: answer)
    }

    /// A TokenReview's answer.
    func review(_ sent: JSONValue, _ state: State) -> FakeAnswer {
        var asked: [String] = []
        if case .list(let audiences) = sent["spec"]?["audiences"] { asked = audiences.compactMap(\.string) }
        if asked.isEmpty { asked = [FakeUser.server] }
        var status: [String: JSONValue] = ["authenticated": .bool(false)]
        let user = state.users[sent["spec"]?["token"]?.string ?? ""]
        let audiences = asked.filter { user?.audiences.contains($0) == true }
        func list(_ texts: [String]) -> JSONValue { .list(texts.map { .text($0) }) }
        if let user, !user.isExpired, !audiences.isEmpty {
            status = [
                "authenticated": .bool(true), "audiences": list(audiences),
                "user": .object([
                    "username": .text(user.name), "uid": .text(user.uid), "groups": list(user.groups),
                    "extra": .object(user.extra.mapValues(list)),
                ]),
            ]
        } else if user?.isExpired == true {
            status["error"] = .text("[invalid bearer token, service account token has expired]")
        } else if let user {
            status["error"] = .text(
                "[invalid bearer token, token audiences \(list(user.audiences).json) is invalid for the target "
                    + "audiences \(list(asked).json)]")
        } else {
            status["error"] = .text("invalid bearer token")
        }
        var answer = sent
        answer["status"] = .object(status)
        return FakeAnswer(201, answer.json)
    }
}

struct FakeRefusal: Error { let answer: FakeAnswer }
