/// Fuzzes what strangers send to a tunnel's port: certificates and chains in a TLS handshake, the handshake's bytes,
/// and the heads of CONNECT. The first byte says which. Nobody is taken for somebody else, and what is refused is said
/// plainly.
import CertificateAuthority
import FuzzSupport
import X509

@testable import Proxy
@testable import Signing

@main enum FuzzTunnels: Fuzzer {
    static func fuzz(_ bytes: [UInt8]) {
        let rest = Array(bytes.dropFirst())
        switch (bytes.first ?? 0) % 8 {
        case 0: connect(frames: rest)
        case 1, 2, 3: connect(lines: rest)
        case 4: certificate(rest)
        case 5: damagedChain(rest)
        case 6: madeChain(rest)
        default: damagedHandshake(rest)
        }
    }

    // MARK: Certificates

    /// Any bytes in the place of a certificate: what TLS's reader finds in them is what ours does.
    private static func certificate(_ der: [UInt8]) {
        guard let facts = factsOfTLS(der), let identity = accepted(facts, at: world.now) else { return }
        let ours = try? certificates(inPEM: pem(der)).first
        // There is no reader that knows all of them: one that ours cannot read leads to no root for it.
        precondition(ours == nil || ours?.uris == [identity.description], "two readers find two names")
        precondition(!leadsToRoot(der, through: [world.intermediate], to: [world.root]), "a forged signature")
    }

    /// A good chain with some bytes changed: two bytes for the place, one for the value, again and again.
    private static func damagedChain(_ edits: [UInt8]) {
        let (leaf, between) = (damaged(world.good, edits), damaged(world.intermediate, edits))
        for chain in [[leaf, world.intermediate], [world.good, between], [leaf, between]] {
            let isLed = leadsToRoot(chain[0], through: Array(chain.dropFirst()), to: [world.root])
            guard isLed, let facts = factsOfTLS(chain[0]) else { continue }
            // Outside of what is signed a certificate has nothing that counts.
            precondition(facts == factsOfTLS(world.good), "what was not signed is believed")
        }
    }

    /// One that somebody has signed, with whatever in it.
    private static func madeChain(_ input: [UInt8]) {
        guard let stranger = Stranger(input) else { return }
        let result = shakeHands(as: stranger.role, chain: stranger.chain)
        let isLed = leadsToRoot(
            stranger.chain[0], through: Array(stranger.chain.dropFirst()), to: [world.root])
        precondition(!isLed || stranger.isOfOurs, "a chain to somebody else's root is believed")
        guard let peer = judged(result) else {
            precondition(!stranger.isGood, "a good peer is refused: \(result)")
            return
        }
        precondition(stranger.isOfOurs && stranger.isInTime, "a peer is believed that is of nobody, or late")
        precondition(stranger.isFor(stranger.role), "a certificate is believed that is for something else")
        let uris = try? certificates(inPEM: pem(stranger.chain[0])).first?.uris
        precondition(uris == [peer.identity.description], "\(peer.identity) was taken from \(uris ?? [])")
        precondition(isLed, "TLS believes what is refused when roots change")
    }

    /// A good peer, and somebody who changes bytes on the way.
    private static func damagedHandshake(_ input: [UInt8]) {
        let role: Role = (input.first ?? 0) & 1 == 0 ? .client : .server
        let result = shakeHands(as: role, chain: [world.good, world.intermediate], edits: Array(input.dropFirst()))
        if let peer = judged(result) { precondition(peer.identity == world.identity, "another than spoke") }
    }

    private static func judged(_ result: Result<TunnelPeer, TunnelRefusal>) -> TunnelPeer? {
        switch result {
        case .success(let peer): return peer
        case .failure(let refusal):
            judge(refusal)
            return nil
        }
    }
}

func judge(_ refusal: TunnelRefusal) {
    precondition(!refusal.sentence.isEmpty && refusal.sentence.utf8.count < 2048, "a sentence without a bound")
    precondition(!refusal.sentence.unicodeScalars.contains { $0.value < 0x20 }, "a sentence of more than a line")
    precondition((400..<600).contains(refusal.status), "an answer that is none")
}

/// Bytes to XOR: two for the place, one for the value.
func damaged(_ bytes: [UInt8], _ edits: [UInt8]) -> [UInt8] {
    var bytes = bytes
    for at in stride(from: 0, to: edits.count - 2, by: 3) {
        let place = (Int(edits[at]) << 8 | Int(edits[at + 1])) % max(bytes.count, 1)
        if !bytes.isEmpty { bytes[place] ^= edits[at + 2] }
    }
    return bytes
}
