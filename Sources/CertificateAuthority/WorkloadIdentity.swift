/// The name that a certificate stands for: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`. One name has one spelling:
/// whatever another reader could take for a second name (escapes, ports, dots, capitals) is no name here.

package struct WorkloadIdentity: Hashable, Sendable, CustomStringConvertible {
    package let trustDomain: String
    package let account: ServiceAccount

    package init(trustDomain: String, account: ServiceAccount) {
        (self.trustDomain, self.account) = (trustDomain, account)
    }

    /// nil: not an identity of a workload, spelled exactly as `description` spells it.
    package init?(_ text: String) {
        let prefix = "spiffe://"
        guard text.utf8.count <= Self.maximumBytes, text.hasPrefix(prefix) else { return nil }
        let parts = text.dropFirst(prefix.count).split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[1] == "ns", parts[3] == "sa", Self.isTrustDomain(String(parts[0])),
            let account = ServiceAccount(namespace: parts[2], name: parts[4])
        else { return nil }
        self.init(trustDomain: String(parts[0]), account: account)
    }

    package static func isTrustDomain(_ text: String) -> Bool { isName(text, longest: 255) }

    package var description: String { "spiffe://\(trustDomain)/ns/\(account.namespace)/sa/\(account.name)" }

    /// What SPIFFE allows.
    private static let maximumBytes = 2048
}

package struct ServiceAccount: Hashable, Sendable, CustomStringConvertible {
    package let namespace: String
    package let name: String

    package init?(namespace: some StringProtocol, name: some StringProtocol) {
        guard isName(namespace, longest: 63), !namespace.utf8.contains(UInt8(ascii: ".")), isName(name, longest: 253)
        else { return nil }
        (self.namespace, self.name) = (String(namespace), String(name))
    }

    /// The API server's name of the user: `system:serviceaccount:NAMESPACE:NAME`.
    package init?(userName: String) {
        let parts = userName.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "system", parts[1] == "serviceaccount" else { return nil }
        self.init(namespace: parts[2], name: parts[3])
    }

    package var description: String { "\(namespace)/\(name)" }
}

/// Labels of small letters, digits and dashes, parted by dots, as Kubernetes and DNS have them.
private func isName(_ text: some StringProtocol, longest: Int) -> Bool {
    guard (1...longest).contains(text.utf8.count) else { return false }
    return text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
        guard let first = label.first, let last = label.last, first != dash, last != dash else { return false }
        return label.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == dash
        }
    }
}

private let dash = UInt8(ascii: "-")
