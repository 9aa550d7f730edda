/// The fields and keys by which an AuthorizationPolicy names what it looks at, and what their values may be.
import Addressing
import RouteIR

enum PolicyAttribute {
    case text(PolicyText)
    case address(PolicyAddress)
    case port

    /// `principals`, without `not`.
    init?(ofSource field: String) {
        switch field {
        case "principals": self = .text(.principal)
        case "requestPrincipals": self = .text(.requestPrincipal)
        case "namespaces": self = .text(.namespace)
        case "serviceAccounts": self = .text(.serviceAccount)
        case "trustDomains": self = .text(.trustDomain)
        case "ipBlocks": self = .address(.source)
        case "remoteIpBlocks": self = .address(.remote)
        default: return nil
        }
    }
    init?(ofOperation field: String) {
        switch field {
        case "hosts": self = .text(.host)
        case "methods": self = .text(.method)
        case "paths": self = .text(.path)
        case "ports": self = .port
        default: return nil
        }
    }
    /// `request.headers[x-foo]`
    init?(ofCondition key: String) {
        switch key {
        case "source.ip": self = .address(.source)
        case "remote.ip": self = .address(.remote)
        case "source.namespace": self = .text(.namespace)
        case "source.principal": self = .text(.principal)
        case "source.serviceAccount": self = .text(.serviceAccount)
        case "request.auth.principal": self = .text(.requestPrincipal)
        case "request.auth.audiences": self = .text(.audience)
        case "request.auth.presenter": self = .text(.presenter)
        case "destination.ip": self = .address(.destination)
        case "destination.port": self = .port
        case "connection.sni": self = .text(.serverName)
        default:
            if let names = Self.brackets(key, behind: "request.headers"), names.count == 1, !names[0].hasPrefix(":") {
                self = .text(.header(names[0].lowercased()))
            } else if let names = Self.brackets(key, behind: "request.auth.claims") {
                self = .text(.claim(names))
            } else {
                return nil
            }
        }
    }

    /// `[a][b]` as a and b.
    private static func brackets(_ key: String, behind prefix: String) -> [String]? {
        guard key.hasPrefix(prefix + "["), key.hasSuffix("]") else { return nil }
        let inner = key.dropFirst(prefix.count + 1).dropLast()
        let names = inner.split(separator: "][", omittingEmptySubsequences: false).map(String.init)
        return names.contains { $0.isEmpty || $0.contains("[") || $0.contains("]") } ? nil : names
    }

    /// Some or none of the values, and what is wrong with those that cannot be read. `namespace`: the policy's own.
    func operand(_ values: [String], namespace: String, _ refuse: (Int, String) -> Void) -> PolicyTest.Operand {
        func readable<Value>(_ remedy: String, _ read: (String) -> Value?) -> [Value] {
            values.enumerated().compactMap { index, text in
                let value = text.isEmpty ? nil : read(text)
                if value == nil { refuse(index, "\(quoted(text)) \(remedy)") }
                return value
            }
        }
        return switch self {
        case .port: .port(readable("is no port; use 1 to 65535") { UInt16($0).flatMap { $0 > 0 ? $0 : nil } })
        case .address(let address):
            .address(address, readable("is no address or range; use one like 10.1.2.0/24") { Self.range($0) })
        case .text(.path):
            .text(
                .path, readable("is no path; of one with braces each segment is {*}, {**} or text") { .init(path: $0) })
        case .text(.host): .text(.host, readable("is no host") { TextMatch($0.lowercased()) })
        case .text(.serverName): .text(.serverName, readable("is no name") { TextMatch($0.lowercased()) })
        case .text(.serviceAccount):
            .text(
                .serviceAccount,
                readable("is no ServiceAccount; use NAMESPACE/NAME, or namespaces for all of one") {
                    Self.account($0, namespace)
                })
        case .text(.principal):
            .text(
                .principal,
                readable("is no principal; leave out spiffe://") {
                    $0.hasPrefix("spiffe:") ? nil : TextMatch($0)
                })
        case .text(let text): .text(text, readable("is no text to compare with") { TextMatch($0) })
        }
    }

    /// Spelled in the one way that everybody reads alike.
    private static func range(_ text: String) -> IPPrefix? {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard let address = IPAddress(parts[0]), !parts[0].contains("%"),
            !parts[0].contains(where: \.isWhitespace), !address.isIPv4 || "\(address)" == parts[0]
        else { return nil }
        if parts.count == 1 { return IPPrefix(host: address) }
        guard parts.count == 2, let length = UInt8(parts[1]), "\(length)" == parts[1] else { return nil }
        return IPPrefix(address, length: Int(length))
    }

    private static func account(_ text: String, _ namespace: String) -> TextMatch? {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, !parts.contains(where: \.isEmpty), !text.contains("*") else { return nil }
        return .exact(parts.count == 2 ? text : "\(namespace)/\(text)")
    }
}
