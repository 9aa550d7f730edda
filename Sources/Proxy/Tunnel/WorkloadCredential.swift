/// What proves who a pod is, as it comes from whoever keeps certificates. Keys show themselves to nobody: not in logs,
/// not in dumps of what holds them.
package import CertificateAuthority

package struct WorkloadCredential: Sendable {
    package let identity: WorkloadIdentity
    /// DER, the leaf first.
    package let chain: [[UInt8]]
    /// DER.
    let key: [UInt8]
    /// Seconds since 1970.
    package let notAfter: Int

    package init(identity: WorkloadIdentity, chain: [[UInt8]], key: [UInt8], notAfter: Int) {
        (self.identity, self.chain, self.key, self.notAfter) = (identity, chain, key, notAfter)
    }
}

extension WorkloadCredential: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "\(identity) until \(notAfter)" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: ["identity": identity, "notAfter": notAfter]) }
}

package struct WorkloadCredentials: Sendable {
    package var byIdentity: [WorkloadIdentity: WorkloadCredential]
    /// DER. Whoever has a chain to none of them is no peer.
    package var roots: [[UInt8]]

    package init(byIdentity: [WorkloadIdentity: WorkloadCredential] = [:], roots: [[UInt8]] = []) {
        (self.byIdentity, self.roots) = (byIdentity, roots)
    }
}
