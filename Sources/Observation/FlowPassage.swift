/// How a connection passes the network, where the mesh has a say in it.

package struct FlowPassage: Codable, Sendable, Hashable {
    package enum Kind: String, Codable, Sendable, CaseIterable {
        /// Mutual TLS.
        case tunnel
        case plaintext
        /// One or the other, by the endpoint that is chosen.
        case either
        /// It must be a tunnel, and none can be made.
        case none
    }
    package var kind: Kind
    package var reason: String
    /// Who the two ends prove to be; nil: they prove nothing, or it depends on the endpoint.
    package var clientIdentity: String?
    package var serverIdentity: String?

    package init(_ kind: Kind, _ reason: String, clientIdentity: String? = nil, serverIdentity: String? = nil) {
        (self.kind, self.reason) = (kind, reason)
        (self.clientIdentity, self.serverIdentity) = (clientIdentity, serverIdentity)
    }
}
