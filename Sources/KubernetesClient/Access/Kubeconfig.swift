/// A kubeconfig file: which cluster, and who we are there.
import Posix
import YAML

extension ClusterAccess {
    /// Reads the file; of its contexts the current one, unless `context` names another.
    package static func kubeconfig(path: String, context: String? = nil) throws(AccessError) -> ClusterAccess {
        let bytes: [UInt8]
        do throws(PosixError) { bytes = try readFile(path, limit: 4 << 20) } catch {
            throw AccessError("\(error.description); pass the path of a readable kubeconfig as --kubeconfig")
        }
        return try kubeconfig(bytes, path: path, context: context)
    }

    static func kubeconfig(_ bytes: [UInt8], path: String, context: String? = nil) throws(AccessError) -> ClusterAccess
    {
        let document: YAMLDocument
        do throws(YAMLError) {
            var stream = try YAMLStream(bytes)
            guard let first = stream.next() else { throw YAMLError(line: 1, message: "the file is empty") }
            document = try first.get()
        } catch {
            throw AccessError("\(path): \(error.description)")
        }
        return try Kubeconfig(path: path, root: document.root).access(context: context)
    }
}

private struct Kubeconfig {
    let path: String
    let root: YAMLNode

    func access(context wanted: String?) throws(AccessError) -> ClusterAccess {
        guard let contextName = wanted ?? text(root, "current-context") else {
            throw AccessError("\(path): current-context is not set; run `kubectl config use-context NAME`")
        }
        let context = try entry("contexts", "context", contextName)
        guard let clusterName = text(context, "cluster") else {
            throw AccessError("\(path): context \(contextName) names no cluster")
        }
        var access = try cluster(try entry("clusters", "cluster", clusterName), clusterName)
        if let userName = text(context, "user") {
            try addUser(try entry("users", "user", userName), userName, to: &access)
        }
        return access
    }

    private func cluster(_ node: YAMLNode, _ name: String) throws(AccessError) -> ClusterAccess {
        guard let url = text(node, "server"), let server = ServerAddress(url) else {
            throw AccessError("\(path): cluster \(name): server must be a URL such as https://10.0.0.1:6443")
        }
        var access = ClusterAccess(server: server)
        access.certificateAuthority = try material(node, "certificate-authority", of: "cluster \(name)")
        access.tlsServerName = text(node, "tls-server-name")
        access.skipsVerification = node["insecure-skip-tls-verify"]?.scalar == .bool(true)
        if let url = text(node, "proxy-url") {
            guard let proxy = ServerAddress(url, schemes: ["http", "socks5"]) else {
                throw AccessError("\(path): cluster \(name): proxy-url must begin with http:// or socks5://")
            }
            access.proxy = proxy
        }
        return access
    }

    /// As in kubectl a token file wins over a token, because somebody keeps it fresh, and both over name and password.
    private func addUser(_ node: YAMLNode, _ name: String, to access: inout ClusterAccess) throws(AccessError) {
        access.clientCertificate = try material(node, "client-certificate", of: "user \(name)")
        access.clientKey = try material(node, "client-key", of: "user \(name)")
        guard (access.clientCertificate == nil) == (access.clientKey == nil) else {
            throw AccessError("\(path): user \(name): client-certificate and client-key go together; one is missing")
        }
        if let file = text(node, "tokenFile") {
            access.login = .tokenFile(resolved(file), stale: text(node, "token"))
        } else if let token = text(node, "token") {
            access.login = .token(token)
        } else if let user = text(node, "username") {
            access.login = .basic(user: user, password: text(node, "password") ?? "")
        } else if let exec = node["exec"] {
            access.login = .plugin(try plugin(exec, name, access))
        } else if node["auth-provider"] != nil {
            throw AccessError("\(path): user \(name): auth-provider was removed from Kubernetes; use exec instead")
        }
    }

    private func plugin(_ node: YAMLNode, _ user: String, _ access: ClusterAccess) throws(AccessError) -> ExecPlugin {
        guard let command = text(node, "command"), let version = text(node, "apiVersion") else {
            throw AccessError("\(path): user \(user): exec needs apiVersion and command")
        }
        guard ExecPlugin.versions.contains(version) else {
            throw AccessError(
                "\(path): user \(user): exec apiVersion \(version) is unknown; use \(ExecPlugin.versions[0])")
        }
        guard text(node, "interactiveMode") != "Always" else {
            throw AccessError("\(path): user \(user): the exec plugin wants a terminal, and an agent has none")
        }
        var environment: [String: String] = [:]
        for variable in node["env"]?.elements.map({ $0 }) ?? [] {
            if let name = text(variable, "name") { environment[name] = text(variable, "value") ?? "" }
        }
        return ExecPlugin(
            apiVersion: version, command: command.contains("/") ? resolved(command) : command,
            arguments: node["args"]?.elements.map(\.text) ?? [], environment: environment,
            server: node["provideClusterInfo"]?.scalar == .bool(true) ? access.server.description : nil)
    }

    /// `NAME-data` in base64, else the file `NAME`.
    private func material(_ node: YAMLNode, _ name: String, of owner: String) throws(AccessError)
        -> ClusterAccess.Material?
    {
        if let encoded = text(node, name + "-data") {
            guard let data = decodeBase64(encoded) else {
                throw AccessError("\(path): \(owner): \(name)-data is not base64")
            }
            return .data(data)
        }
        return text(node, name).map { .file(resolved($0)) }
    }

    /// The value of a named entry of one of the file's lists.
    private func entry(_ list: String, _ field: String, _ name: String) throws(AccessError) -> YAMLNode {
        let entries = root[list]?.elements.map { $0 } ?? []
        guard let value = entries.first(where: { text($0, "name") == name })?[field] else {
            let names = entries.compactMap { text($0, "name") }.joined(separator: ", ")
            throw AccessError(
                "\(path): there is no \(field) \(name); \(names.isEmpty ? "the file has none" : "it has \(names)")")
        }
        return value
    }

    /// A text that is not empty.
    private func text(_ node: YAMLNode, _ key: String) -> String? {
        guard let value = node[key], value.kind == .scalar, value.scalar != .null, !value.text.isEmpty else {
            return nil
        }
        return value.text
    }

    /// Paths are relative to the kubeconfig's folder.
    private func resolved(_ file: String) -> String {
        guard !file.hasPrefix("/"), let slash = path.lastIndex(of: "/") else { return file }
        return path[...slash] + file
    }
}
