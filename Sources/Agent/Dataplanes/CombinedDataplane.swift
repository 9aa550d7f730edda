/// eBPF with nftables beside it: every plan goes to both. What never passes the socket hooks (clients outside, SCTP,
/// sockets from before the start) finds the nftables rules. They are written first: once a process of this node reaches
/// a service, so does everybody else. Rules that are there for others only must take nothing away that was served by
/// rules before eBPF serves it: at the start they come second.
import DataplaneIR
import Observation
import Reconcile

final class CombinedDataplane: Dataplane {
    var name: String { primary.name }
    private let primary: any Dataplane
    private let companion: any Dataplane

    private var companionGoesFirst: Bool

    init(primary: any Dataplane, companion: any Dataplane, companionServesAll: Bool = true) {
        self.primary = primary
        self.companion = companion
        companionGoesFirst = companionServesAll
    }

    /// A failure of one does not keep the other back. Each knows what it has written: a retry costs the one that
    /// succeeded nothing.
    func write(_ plan: Plan) throws(DataplaneError) -> Receipt {
        var before: Result<Receipt, DataplaneError>?
        if companionGoesFirst { before = Result { () throws(DataplaneError) in try companion.write(plan) } }
        var receipt = try primary.write(plan)
        companionGoesFirst = true
        let other = if let before { try before.get() } else { try companion.write(plan) }
        receipt.operations += other.operations
        receipt.refused.merge(other.refused) { first, second in first == second ? first : "\(first); \(second)" }
        return receipt
    }

    /// After both have been written: it may take the companion ten times as long as writing did.
    func cutStaleFlows(_ receipt: inout Receipt) {
        primary.cutStaleFlows(&receipt)
        companion.cutStaleFlows(&receipt)
    }

    func verify(quick: Bool) throws(DataplaneError) -> [Drift] {
        try primary.verify(quick: quick) + companion.verify(quick: quick)
    }
    /// All in one piece: an audit looks at each of the two by itself.
    func compare(entries: Int, restarts: Bool) throws(DataplaneError) -> ComparedPiece {
        var piece = ComparedPiece()
        piece.drift = try verify(quick: false)
        piece.isLast = true
        return piece
    }
    func collectGarbage() throws(DataplaneError) {
        try primary.collectGarbage()
        try companion.collectGarbage()
    }
    func capacity() throws(DataplaneError) -> [MapUsage] { try primary.capacity() + companion.capacity() }
    func counters() throws(DataplaneError) -> [String: UInt64] {
        try primary.counters().merging(companion.counters()) { $0 &+ $1 }
    }
}
