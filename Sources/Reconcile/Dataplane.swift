/// The seam between deciding and doing. The reconciler owns this protocol; the eBPF and nftables dataplanes in
/// `LinuxDataplane` implement it. All calls come from one thread, which may block.
package import DataplaneIR
package import Observation

/// What to write next. Order of work inside a dataplane: add backends, switch frontends, remove backends, so that no
/// lookup meets a hole.
package struct Plan: Sendable {
    /// Counts up by one with every plan.
    package let generation: UInt64
    package let node: NodeProgram
    /// Programs to put in force, in the order of their IDs.
    package let upserts: [ServiceProgram]
    /// Programs to withdraw.
    package let removals: [ServicePortID]
    /// `upserts` is everything there should be: whatever else the kernel holds of ours must go.
    package let isFull: Bool

    package init(
        generation: UInt64, node: NodeProgram, upserts: [ServiceProgram], removals: [ServicePortID], isFull: Bool
    ) {
        self.generation = generation
        self.node = node
        self.upserts = upserts
        self.removals = removals
        self.isFull = isFull
    }
}

/// What a dataplane did with a plan.
package struct Receipt: Sendable {
    package var generation: UInt64
    /// Kernel entries written or removed; 0 when the plan changed nothing.
    package var operations = 0
    /// Services that did not fit and were left out whole, with the reason. They stay refused until a later plan has
    /// them again; the dataplane keeps their last version in force when there was one.
    package var refused: [ServicePortID: String] = [:]
    /// UDP flows or sockets that were sent to another backend, or ended, because theirs went away.
    package var staleFlowsRemoved = 0
    /// What looking for tracked flows took, in seconds; nil: there was no need to look.
    package var staleFlowsSeconds: Double?

    package init(generation: UInt64) { self.generation = generation }
}

/// One difference between what we wrote and what the kernel holds.
package struct Drift: Sendable, Equatable, CustomStringConvertible {
    /// The kernel object: `map services`, `link connect4`.
    package let object: String
    /// What is wrong with it: `element 10.96.0.1 . tcp . 80 is missing`.
    package let detail: String

    package init(object: String, detail: String) {
        self.object = object
        self.detail = detail
    }
    package var description: String { "\(object): \(detail)" }
}

/// A part of a comparison that is made in pieces.
package struct ComparedPiece: Sendable {
    package var drift: [Drift] = []
    /// Kernel entries that were looked at.
    package var entries = 0
    /// Everything has been looked at; the next piece begins another comparison.
    package var isLast = false
    /// Somebody wrote meanwhile, so that some of it must be looked at again, and in larger pieces.
    package var isSpoilt = false

    package init() {}
}

package protocol Dataplane: AnyObject {
    /// `ebpf` or `nftables`.
    var name: String { get }
    /// Writes a plan. Throws when something failed that may work on a retry.
    func write(_ plan: Plan) throws(DataplaneError) -> Receipt
    /// Ends flows that plans since the last call have made stale, and notes how many. It may take longer than writing
    /// did: nobody's new connection waits for it.
    func cutStaleFlows(_ receipt: inout Receipt)
    /// Compares what we wrote last with the kernel, at one go. `quick`: only what costs the same at any size.
    func verify(quick: Bool) throws(DataplaneError) -> [Drift]
    /// The whole of it in pieces of some `entries`; plans may be written in between and count from then on. `restarts`:
    /// from the beginning, whatever was looked at already.
    func compare(entries: Int, restarts: Bool) throws(DataplaneError) -> ComparedPiece
    /// Frees what was kept for readers of the previous generation. Call it some 100 ms after the last `apply`.
    func collectGarbage() throws(DataplaneError)
    func capacity() throws(DataplaneError) -> [MapUsage]
    /// Human-readable facts for `agentctl status`: attached links, counters by reason.
    func counters() throws(DataplaneError) -> [String: UInt64]
}

extension Dataplane {
    package func cutStaleFlows(_ receipt: inout Receipt) {}

    /// Both in their order.
    package func apply(_ plan: Plan) throws(DataplaneError) -> Receipt {
        var receipt = try write(plan)
        cutStaleFlows(&receipt)
        return receipt
    }
}
