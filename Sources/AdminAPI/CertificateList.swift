/// The certificates of this node's enrolled pods, as the L7 proxy tells of them: its answer to `certificates`.

package struct CertificateList: Codable, Sendable, Equatable {
    package struct Entry: Codable, Sendable, Equatable {
        /// `spiffe://cluster.local/ns/shop/sa/web`
        package var identity: String
        /// missing, valid, overdue (the last one is used, and a newer one cannot be had) or expired.
        package var state: String
        /// nil, as the times: there is none.
        package var serial: String?
        /// In seconds since 1970.
        package var notBefore: Int?
        package var notAfter: Int?
        /// Why the last request brought nothing.
        package var problem: String?
    }
    /// The proxy is connected to the agent, and can ask.
    package var isConnected: Bool
    package var entries: [Entry]
}
