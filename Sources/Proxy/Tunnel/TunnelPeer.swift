/// Who is at the other end of a tunnel, and by what. A tunnel may be older than what is believed, so that it is asked
/// again when that has changed.
import CertificateAuthority
import NIOCore
import NIOSSL
import RouteIR

struct TunnelPeer {
    let identity: WorkloadIdentity
    let facts: PeerCheck.Facts
    let certificate: NIOSSLCertificate
    /// DER; its chain leads to one of these.
    private(set) var roots: [[UInt8]]

    init(_ identity: WorkloadIdentity, _ facts: PeerCheck.Facts, _ certificate: NIOSSLCertificate, roots: [[UInt8]]) {
        (self.identity, self.facts, self.certificate, self.roots) = (identity, facts, certificate, roots)
    }

    /// Whether its chain still leads to a root. While none was taken away there is nothing to look at.
    mutating func checkRoots(on shard: Shard) throws(TunnelRefusal) {
        let believed = shard.credentials.roots
        guard roots != believed else { return }
        guard
            Set(roots).isSubset(of: believed)
                || shard.credentials.leadsToRoot(certificate, by: shard.options.leadsToRoot)
        else {
            throw TunnelRefusal(
                .unknownRoot,
                "\(identity) has shown a certificate of a root that was taken away here: it needs a newer one")
        }
        roots = believed
    }
}

extension TunnelServer {
    /// What is to be believed of its client before it may open a stream.
    func checkClient() throws(TunnelRefusal) {
        guard let mesh = shard.table.snapshot.mesh else { throw .noMesh }
        _ = try PeerCheck.client(client.facts, mesh, at: wallClock())
        try client.checkRoots(on: shard)
    }

    /// Called when other roots or trust domains are believed.
    func trustChanged() {
        guard let refusal = loss(checkClient) else { return }
        shard.refusedTunnel(refusal, "from \(client.identity) to \(pod)")
        revoke(refusal)
    }
}

extension TunnelClient {
    func trustChanged() {
        guard peer != nil, let refusal = loss(checkServer) else { return }
        lastRefusal = refusal
        revoke(refusal)
    }
}

extension HTTP2Connection {
    /// What takes a tunnel's right to be: its peer's root or trust domain, and not that it has outlived its
    /// certificate, as long connections do. Whoever leaves the mesh keeps what he has.
    fileprivate func loss(_ check: () throws(TunnelRefusal) -> Void) -> TunnelRefusal? {
        guard shard.table.snapshot.mesh != nil else { return nil }
        do throws(TunnelRefusal) {
            try check()
            return nil
        } catch { return error.kind == .expired ? nil : error }
    }

    /// Its streams end as if their connections were reset.
    fileprivate func revoke(_ refusal: TunnelRefusal) {
        for stream in streams.values {
            guard let stream = stream as? TunnelStream, let user = stream.user else { continue }
            stream.user = nil
            user.wasReset("is believed no more: \(refusal.sentence)")
        }
        context?.channel.cut()
    }
}
