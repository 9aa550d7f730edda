/// What leaves are signed with now.
import Signing

struct Signer: Sendable {
    let authority: Authority
    /// The longest life of a leaf, in seconds.
    let life: Int
    /// When the first of its chain ends, in seconds since 1970.
    private let end: Int

    init(_ authority: Authority, life: Int) {
        (self.authority, self.life) = (authority, life)
        let chain = (try? certificates(inPEM: authority.chain.joined())) ?? [authority.facts]
        end = chain.map(\.notAfter).min() ?? authority.facts.notAfter
    }

    /// Of those above the leaf; the root is the last.
    var chain: [String] { authority.chain }
    var root: String? { chain.last }

    /// When a leaf signed now ends; nil: nothing can be signed any more.
    func leafEnd(now: Int) -> Int? { end > now ? min(now + life, end) : nil }
}
