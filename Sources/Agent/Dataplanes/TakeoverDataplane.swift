/// The dataplane in use, and what another kind may have left in the kernel: an agent with other options, or on a kernel
/// on which `auto` took the other. Both would steer connections, and nobody would tell the old one of changes. It stays
/// in force until everything is written here, then it goes: no connection meets neither.
import DataplaneIR
import Observation
import Reconcile

/// What an agent with another dataplane has left.
struct FormerDataplane {
    let name: String
    /// What of it is in force, as kernel objects.
    let find: () throws(DataplaneError) -> [String]
    /// Takes it out of force; false: something of it must stay for a while, and this is to be called again.
    let remove: () throws(DataplaneError) -> Bool
}

final class TakeoverDataplane: Dataplane {
    var name: String { current.name }
    private let current: any Dataplane
    private let former: FormerDataplane
    private var isGone = false

    init(_ current: any Dataplane, from former: FormerDataplane) {
        self.current = current
        self.former = former
    }

    func write(_ plan: Plan) throws(DataplaneError) -> Receipt {
        let receipt = try current.write(plan)
        if plan.isFull || !isGone { isGone = try former.remove() }
        return receipt
    }
    func cutStaleFlows(_ receipt: inout Receipt) { current.cutStaleFlows(&receipt) }

    func verify(quick: Bool) throws(DataplaneError) -> [Drift] {
        try current.verify(quick: quick)
            + former.find().map {
                Drift(object: $0, detail: "steers connections as well: it is of the dataplane \(former.name)")
            }
    }
    func compare(entries: Int, restarts: Bool) throws(DataplaneError) -> ComparedPiece {
        try current.compare(entries: entries, restarts: restarts)
    }
    /// Only after a plan was written.
    func collectGarbage() throws(DataplaneError) {
        try current.collectGarbage()
        if !isGone { isGone = try former.remove() }
    }
    func capacity() throws(DataplaneError) -> [MapUsage] { try current.capacity() }
    func counters() throws(DataplaneError) -> [String: UInt64] { try current.counters() }
}
