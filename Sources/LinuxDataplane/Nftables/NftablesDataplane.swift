/// The nftables dataplane: services are elements of a few maps in the tables `ip heddle` and `ip6 heddle`. A plan is
/// one transaction over both families, of only what changed; a second, later one removes what packets on their way
/// through the old rules may still look up.
import Addressing
package import DataplaneIR
import Glibc
import Netlink
import Nftables
package import Reconcile

package struct NftablesOptions: Sendable {
    package var companion = NftablesCompanion.none
    package init() {}
    package init(companion: NftablesCompanion) { self.companion = companion }
}

package final class NftablesDataplane: Dataplane {
    package let name = "nftables"
    let connection: NftablesConnection
    private let conntrack: ConntrackClient
    private let options: NftablesOptions
    private let faults: FaultInjector
    let mirrors: [TableMirror]
    private(set) var programs: [ServicePortID: ServiceProgram] = [:]
    private(set) var node: NodeProgram?
    private(set) var generation: UInt64 = 0
    /// False until the first plan, and after a failure: the next plan compares with the kernel itself.
    private var isTrusted = false
    /// A full plan failed: the table may be beyond repair, the next one makes it anew.
    private var mustReplace = false
    /// Services whose elements depend on the node's addresses.
    private var filtered: Set<ServicePortID> = []
    private var purge = ConntrackPurge()
    private var statistics: [String: UInt64] = [:]
    /// Is told before and after commits so large that listeners would slow them down.
    package weak var monitor: NftablesMonitor?
    /// nftables' own count of commits, as long as all since the last look were ours; nil: somebody else committed
    /// something.
    var kernelGeneration: UInt32?
    /// Ours.
    private(set) var commits: UInt64 = 0
    /// Under way; nil: the next begins at the beginning.
    var comparison: TableComparison?

    /// Serves the network namespace of the calling thread.
    package init(options: NftablesOptions = NftablesOptions(), faults: FaultInjector = .none) throws(DataplaneError) {
        self.options = options
        self.faults = faults
        do {
            connection = try NftablesConnection()
            conntrack = try ConntrackClient()
        } catch {
            throw DataplaneError(error, remedy: "heddle-agent needs CAP_NET_ADMIN")
        }
        let families = try NftablesProbe.families(connection)
        mirrors = families.map { TableMirror($0, name: TableLayout.name, companion: options.companion) }
    }

    /// The number in the notifications that our commits cause.
    package var portID: UInt32 { connection.portID }
    private func carries(_ frontend: Frontend, _ id: ServicePortID) -> Bool {
        options.companion.carries(frontend, id.transport)
    }
    /// The elements that a program needs.
    func elements(_ program: ServiceProgram, _ node: NodeProgram) -> [TableElement] {
        ServiceElements(program, node, options.companion).own
    }

    // MARK: Plans

    package func write(_ plan: Plan) throws(DataplaneError) -> Receipt {
        let services = changes(plan)
        let isFull = plan.isFull || !isTrusted
        if !isFull, services.isEmpty, plan.node == node {
            generation = plan.generation
            return Receipt(generation: plan.generation)
        }
        isTrusted = false
        var staged: [(TableMirror, TableMirror.Staged)] = []
        for mirror in mirrors {
            let own = services.filter { $0.id.family == mirror.family }.map {
                FamilyPlan.Service(old: $0.old, new: $0.new)
            }
            let familyPlan = FamilyPlan(
                services: isFull ? own.filter { $0.new != nil } : own, oldNode: isFull ? nil : node, node: plan.node,
                generation: plan.generation)
            staged.append((mirror, try isFull ? stageFull(mirror, familyPlan) : mirror.stage(familyPlan)))
        }
        let operations: Int
        do throws(DataplaneError) {
            operations = try commit(staged.map(\.1.change))
        } catch {
            if isFull { mustReplace = true }
            statistics["commit_failures", default: 0] += 1
            throw error
        }
        for (mirror, change) in staged { mirror.accept(change) }
        notePurge(services, plan.node)
        let servesMoreAddresses = node.map { !plan.node.nodePortAddresses.isSubset(of: $0.nodePortAddresses) } ?? false
        accept(services, plan)
        if servesMoreAddresses {
            for (id, program) in programs { purge.noteNodePorts(of: program) { carries($0, id) } }
        }
        isTrusted = true
        mustReplace = false
        var receipt = Receipt(generation: plan.generation)
        receipt.operations = operations
        return receipt
    }

    private struct Change {
        let id: ServicePortID
        let old: ServiceProgram?
        let new: ServiceProgram?
    }

    /// The services whose elements may change; for a full plan all there are and were.
    private func changes(_ plan: Plan) -> [Change] {
        var result: [Change] = []
        var seen: Set<ServicePortID> = []
        let isFull = plan.isFull || !isTrusted
        for program in plan.upserts {
            let old = programs[program.id]
            if isFull || old != program { result.append(Change(id: program.id, old: old, new: program)) }
            if isFull || plan.node != node { seen.insert(program.id) }
        }
        for id in plan.removals {
            if let old = programs[id] { result.append(Change(id: id, old: old, new: nil)) }
            seen.insert(id)
        }
        if isFull {
            for (id, program) in programs where !seen.contains(id) {
                result.append(Change(id: id, old: program, new: plan.isFull ? nil : program))
            }
        } else if plan.node.localAddresses != node?.localAddresses {
            for id in filtered where !seen.contains(id) {
                guard let program = programs[id] else { continue }
                result.append(Change(id: id, old: program, new: program))
            }
        }
        return result
    }

    private func stageFull(_ mirror: TableMirror, _ plan: FamilyPlan) throws(DataplaneError) -> TableMirror.Staged {
        let observed: TableObservation?
        do {
            observed = try TableObservation.read(mirror.table, connection, withElements: true)
        } catch {
            throw DataplaneError(error)
        }
        if let observed {
            let comment = observed.comment ?? ""
            guard TableLayout.parse(comment: comment) != nil else {
                let label = mirror.table.label
                throw DataplaneError(
                    operation: "adopt table \(label)", code: EEXIST,
                    description: "a table \"\(label)\" exists that Heddle did not make"
                        + (comment.isEmpty ? "" : " (its comment says \"\(comment)\")")
                        + "; find out who owns it, and remove it with `nft delete table \(label)`")
            }
            for key in observed.elements.keys { noteLeftover(key, mirror.family) }
        }
        let replaces = observed.map { mustReplace || $0.mustBeReplaced(mirror.family) } ?? false
        return mirror.stageFull(plan, observed: observed, replaces: replaces)
    }

    private func accept(_ services: [Change], _ plan: Plan) {
        for service in services {
            programs[service.id] = service.new
            let isFiltered = service.new?.frontends.contains { !$0.sourceRanges.isEmpty } ?? false
            if isFiltered { filtered.insert(service.id) } else { filtered.remove(service.id) }
        }
        node = plan.node
        generation = plan.generation
    }

    package func cutStaleFlows(_ receipt: inout Receipt) {
        guard !purge.isEmpty else { return }
        let start = ContinuousClock.now
        receipt.staleFlowsRemoved += runPurge()
        receipt.staleFlowsSeconds = (ContinuousClock.now - start) / .seconds(1)
    }

    // MARK: Commits

    private static let largeCommit = 5000

    private func commit(_ changes: [TableChange]) throws(DataplaneError) -> Int {
        var prepare = connection.makeBatch()
        for change in changes where !change.isNewTable { change.encodePreparation(into: &prepare) }
        var operations = try send(&prepare)
        var batch = connection.makeBatch()
        for change in changes {
            if change.isNewTable { change.encodePreparation(into: &batch) }
            change.encodeSwitch(into: &batch)
        }
        operations += try send(&batch)
        return operations
    }

    private func send(_ batch: inout Batch) throws(DataplaneError) -> Int {
        guard !batch.isEmpty else { return 0 }
        for label in batch.labels {
            if let code = faults.error(for: label) { throw DataplaneError(NetlinkError(operation: label, code: code)) }
        }
        let isLarge = batch.operations > Self.largeCommit
        if isLarge { monitor?.pause() }
        defer { if isLarge { monitor?.resume() } }
        do {
            let before = try connection.generation()
            try connection.commit(&batch)
            let after = try connection.generation()
            let isUndisturbed = kernelGeneration == before || commits == 0
            kernelGeneration = isUndisturbed && after == before &+ 1 ? after : nil
        } catch {
            throw DataplaneError(error)
        }
        commits += 1
        statistics["commits"] = commits
        statistics["operations", default: 0] += UInt64(batch.operations)
        return batch.operations
    }

    // MARK: Garbage and stale flows

    package func collectGarbage() throws(DataplaneError) {
        if !purge.isEmpty { _ = runPurge() }
        guard isTrusted else { return }
        let collections = mirrors.filter(\.hasGarbage).map { ($0, $0.stageCollection()) }
        guard !collections.isEmpty else { return }
        var batch = connection.makeBatch()
        for (_, collection) in collections { collection.change.encodeSwitch(into: &batch) }
        do throws(DataplaneError) {
            _ = try send(&batch)
        } catch {
            isTrusted = false
            throw error
        }
        for (mirror, collection) in collections { mirror.accept(collection) }
    }

    private func notePurge(_ services: [Change], _ newNode: NodeProgram) {
        for service in services {
            purge.note(old: node == nil ? nil : service.old, new: service.new) { carries($0, service.id) }
        }
        purge.noteNodeAddresses(newNode.nodePortAddresses.union(node?.nodePortAddresses ?? []))
    }
    /// What an agent before us served: its flows are stale unless a service has the address now.
    private func noteLeftover(_ key: ElementKey, _ family: AddressFamily) {
        guard key.transport == TransportProtocol.udp.rawValue else { return }
        switch key.set {
        case .serviceIPs, .noEndpointServices: purge.noteGone(key.address, key.port, family)
        case .serviceNodePorts, .noEndpointNodePorts: purge.noteGone(nil, key.port, family)
        default: break
        }
    }

    /// The program is in force already, so a failure here must not look like one of the plan: it is tried again with
    /// the next plan and the next collection of garbage.
    private func runPurge() -> Int {
        guard !purge.isEmpty else { return 0 }
        do {
            if let code = faults.error(for: "purge UDP flows") {
                throw NetlinkError(operation: "purge UDP flows", code: code)
            }
            let removed = try purge.run(conntrack)
            purge = ConntrackPurge()
            statistics["conntrack_purged", default: 0] += UInt64(removed)
            return removed
        } catch {
            statistics["conntrack_purge_failures", default: 0] += 1
            return 0
        }
    }

    package func counters() throws(DataplaneError) -> [String: UInt64] { statistics }
}

extension DataplaneError {
    init(_ error: NetlinkError, remedy: String? = nil) {
        self.init(
            operation: error.operation, code: error.code,
            description: "nftables: \(error)" + (remedy.map { "; \($0)" } ?? ""))
    }
}
