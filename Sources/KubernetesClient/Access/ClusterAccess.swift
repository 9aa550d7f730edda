/// Where an API server is and how to prove who we are, whatever said so: the pod's own files or a kubeconfig.
import NIOCore

package struct ClusterAccess: Sendable {
    /// A file is read again for each connection, because kubelets and administrators renew them.
    enum Material: Equatable, Sendable {
        case file(String)
        case data([UInt8])
    }
    enum Login: Equatable, Sendable {
        /// By client certificate, or not at all.
        case none
        case token(String)
        /// With what stands in for it while the file cannot be read.
        case tokenFile(String, stale: String? = nil)
        case basic(user: String, password: String)
        case plugin(ExecPlugin)
    }

    var server: ServerAddress
    var certificateAuthority: Material?
    /// The name in the server's certificate, where it is not the one we connect to.
    var tlsServerName: String?
    var skipsVerification = false
    var clientCertificate: Material?
    var clientKey: Material?
    var login = Login.none
    var proxy: ServerAddress?

    init(server: ServerAddress) { self.server = server }

    /// The server's URL, as shown in messages.
    package var serverName: String { server.description }

    /// What it means that the server's certificate is good and for somebody else.
    var foreignCertificateSentence: String {
        let wanted = tlsServerName ?? server.host
        let isKnownByAddress =
            proxy != nil && tlsServerName == nil && (try? SocketAddress(ipAddress: wanted, port: 0)) != nil
        return isKnownByAddress
            ? "behind a proxy a server is known by its name only, and \(wanted) is an address; set tls-server-name to "
                + "a name in the server's certificate"
            : "its certificate is not for \(wanted); connect to a name or address that is in it, or set "
                + "tls-server-name to one"
    }
}

/// Why there is no way to an API server, as a sentence with the remedy.
package struct AccessError: Error, Equatable, CustomStringConvertible {
    package let description: String
    init(_ description: String) { self.description = description }
}

/// `https://10.0.0.1:6443/path`
struct ServerAddress: Equatable, Sendable, CustomStringConvertible {
    var scheme: String
    /// Without brackets.
    var host: String
    var port: Int
    /// Empty, or begins with `/` and does not end with one.
    var path: String
    /// Of a proxy's URL.
    var userInfo: String?

    init(scheme: String, host: String, port: Int) {
        self.scheme = scheme
        self.host = host
        self.port = port
        path = ""
    }

    /// nil: not a URL of one of `schemes`.
    init?(_ text: String, schemes: [String] = ["http", "https"]) {
        guard let mark = text.firstRange(of: "://") else { return nil }
        scheme = text[..<mark.lowerBound].lowercased()
        guard schemes.contains(scheme) else { return nil }
        let rest = text[mark.upperBound...]
        let end = rest.firstIndex { $0 == "/" || $0 == "?" || $0 == "#" } ?? rest.endIndex
        var authority = rest[..<end]
        path = String(rest[end...])
        while path.hasSuffix("/") { path.removeLast() }
        if let at = authority.lastIndex(of: "@") {
            userInfo = String(authority[..<at])
            authority = authority[authority.index(after: at)...]
        }
        let portText: Substring
        if authority.first == "[" {
            guard let bracket = authority.firstIndex(of: "]") else { return nil }
            host = String(authority[authority.index(after: authority.startIndex)..<bracket])
            portText = authority[authority.index(after: bracket)...]
        } else {
            let colon = authority.firstIndex(of: ":") ?? authority.endIndex
            host = String(authority[..<colon])
            portText = authority[colon...]
        }
        port = scheme == "https" ? 443 : scheme == "http" ? 80 : 1080
        if !portText.isEmpty {
            guard portText.first == ":", let number = UInt16(portText.dropFirst()), number > 0 else { return nil }
            port = Int(number)
        }
        guard !host.isEmpty, !path.contains(where: { $0 == "?" || $0 == "#" }) else { return nil }
    }

    /// Host and port as in a URL or a Host header.
    func authority(host name: String? = nil) -> String {
        let name = name ?? host
        let isStandard = scheme == "https" && port == 443 || scheme == "http" && port == 80
        return (name.contains(":") ? "[\(name)]" : name) + (isStandard ? "" : ":\(port)")
    }
    var description: String { "\(scheme)://\(authority())\(path)" }
}
