/// What we believe the kernel holds of one table, as far as it does not follow from the programs: counts of shared
/// elements, chains in use, garbage. Plans are turned into operations here; nothing in this file touches the kernel,
/// and the cost is that of what changes.
import Addressing
import DataplaneIR
import Nftables

/// A plan as one family sees it.
struct FamilyPlan {
    struct Service {
        let old: ServiceProgram?
        let new: ServiceProgram?
    }
    let services: [Service]
    /// nil: nothing was programmed before.
    let oldNode: NodeProgram?
    let node: NodeProgram
    let generation: UInt64
}

final class TableMirror {
    let table: Table
    private let companion: NftablesCompanion
    private var shared: [ElementKey: Int] = [:]
    private(set) var chains = ChainLedger()
    private(set) var garbageElements: [ElementKey: TableElement] = [:]
    private(set) var garbageSets: Set<String> = []
    /// The element that tells the generation.
    private(set) var generation: TableElement?
    /// Of all elements.
    private(set) var digest = TableDigest()
    private var sticky: [UInt64: StickyService] = [:]
    private var stickyEndpoints: [UInt64: (UInt64, Backend)] = [:]

    init(_ family: AddressFamily, name: String, companion: NftablesCompanion) {
        self.table = Table(family, name)
        self.companion = companion
    }
    var family: AddressFamily { table.family }
    var sharedElements: [ElementKey] { Array(shared.keys) }
    var chainsInUse: [ChainSpec] { chains.chains.values.map(\.spec) }
    var hasGarbage: Bool { !garbageElements.isEmpty || !chains.garbage.isEmpty || !garbageSets.isEmpty }

    /// A change that is computed but not in the kernel yet.
    struct Staged {
        var change: TableChange
        fileprivate var chains = ChainLedger.Staged()
        fileprivate var sharedCounts: [ElementKey: Int] = [:]
        fileprivate var newGarbage: [TableElement] = []
        fileprivate var revivedElements: [ElementKey] = []
        fileprivate var sticky: [UInt64: StickyService?] = [:]
        fileprivate var stickyEndpoints: [UInt64: (UInt64, Backend)?] = [:]
        fileprivate var generation: TableElement?
        fileprivate var foundChains: [(String, String?)] = []
        fileprivate var foundSets: Set<String> = []
        /// A full plan begins with what the kernel holds.
        fileprivate var found: TableDigest?
    }

    // MARK: A change

    /// The difference between what is in force and the plan.
    func stage(_ plan: FamilyPlan) -> Staged {
        var staged = Staged(change: TableChange(table))
        var before: [ElementKey: TableElement] = [:]
        var after: [TableElement] = []
        var retained: [ChainID] = []
        var released: [ChainID] = []
        var changedSticky: [UInt64] = []
        for service in plan.services {
            if let program = service.old {
                let elements = ServiceElements(program, plan.oldNode ?? plan.node, companion)
                for element in elements.own { before[element.key] = element }
                for key in elements.shared { staged.sharedCounts[key, default: 0] -= 1 }
                released += elements.chains
            }
            if let program = service.new {
                let elements = ServiceElements(program, plan.node, companion)
                after += elements.own
                for key in elements.shared { staged.sharedCounts[key, default: 0] += 1 }
                retained += elements.chains
            }
            stageSticky(service, &staged, &changedSticky)
        }
        if plan.oldNode != plan.node {
            for element in plan.oldNode.map({ nodeElements($0, family) }) ?? [] { before[element.key] = element }
            after += nodeElements(plan.node, family)
        }
        let oldMesh = plan.oldNode?.mesh ?? MeshProgram()
        if oldMesh != plan.node.mesh {
            // By its difference: it is as large as the cluster.
            let gone = meshElements(oldMesh, without: plan.node.mesh, family)
            for element in gone { before[element.key] = element }
            after += meshElements(plan.node.mesh, without: oldMesh, family)
        }
        stageElements(before, after, &staged)
        stageShared(&staged)
        stageChains(plan, retained, released, changedSticky, &staged)
        if !staged.change.isEmpty { stageGeneration(plan.generation, &staged) }
        return staged
    }

    private func stageElements(
        _ before: consuming [ElementKey: TableElement], _ after: [TableElement], _ staged: inout Staged
    ) {
        for element in after {
            let old = before.removeValue(forKey: element.key)
            let garbage = garbageElements.isEmpty ? nil : garbageElements[element.key]
            if garbage != nil { staged.revivedElements.append(element.key) }
            guard let inKernel = old ?? garbage else {
                staged.change.add(element)
                continue
            }
            guard inKernel != element else { continue }
            staged.change.delete(inKernel)
            staged.change.add(element)
        }
        for element in before.values {
            if element.key.set.isRemovedLate {
                staged.newGarbage.append(element)
            } else {
                staged.change.delete(element)
            }
        }
    }

    private func stageShared(_ staged: inout Staged) {
        for (key, difference) in staged.sharedCounts where difference != 0 {
            let old = shared[key, default: 0]
            precondition(old + difference >= 0, "shared element \(key) is released more often than retained")
            if old == 0 { staged.change.add(TableElement(key: key)) }
            if old + difference == 0 { staged.change.delete(TableElement(key: key)) }
        }
    }

    private func stageSticky(_ service: FamilyPlan.Service, _ staged: inout Staged, _ changed: inout [UInt64]) {
        let old = service.old.flatMap(StickyService.init)
        let new = service.new.flatMap(StickyService.init)
        guard old != nil || new != nil, old != new, let id = (service.new ?? service.old)?.id else { return }
        let hash = StickyService.hash(id)
        staged.sticky[hash] = .some(new)
        for endpoint in old?.endpoints ?? [] { staged.stickyEndpoints[endpoint.hash] = .some(nil) }
        for endpoint in new?.endpoints ?? [] { staged.stickyEndpoints[endpoint.hash] = (hash, endpoint.backend) }
        if old != nil, new != nil { changed.append(hash) }
    }

    private func stageChains(
        _ plan: FamilyPlan, _ retained: [ChainID], _ released: [ChainID], _ changedSticky: [UInt64],
        _ staged: inout Staged
    ) {
        let context = context(plan.node, staged)
        // Retaining first keeps a chain that only changes hands from becoming garbage in between.
        for id in retained { chains.retain(id, &staged.chains, context) }
        for id in released { chains.release(id, &staged.chains) }
        for hash in changedSticky {
            for policy in [TrafficPolicy.cluster, .local] {
                chains.refresh(.target(.sticky(hash, policy)), &staged.chains, context)
            }
            for endpoint in staged.sticky[hash]??.endpoints ?? [] {
                chains.refresh(.stickyEndpoint(endpoint.hash), &staged.chains, context)
            }
        }
        if let old = plan.oldNode, !old.hasSameRules(as: plan.node) {
            chains.refreshAll(&staged.chains, context)
            let before = ConstantChain.all(family, old)
            for (spec, old) in zip(ConstantChain.all(family, plan.node), before) where spec != old {
                staged.chains.rewritten.append(spec)
            }
        }
        emit(staged.chains, &staged.change)
    }

    private func context(_ node: NodeProgram, _ staged: Staged) -> ChainContext {
        let service = { [sticky] (hash: UInt64) -> StickyService? in
            if let new = staged.sticky[hash] { new } else { sticky[hash] }
        }
        return ChainContext(
            family: family, node: node, sticky: service,
            stickyEndpoint: { [stickyEndpoints] hash in
                let found = if let new = staged.stickyEndpoints[hash] { new } else { stickyEndpoints[hash] }
                guard let (owner, backend) = found, let service = service(owner) else { return nil }
                return (service, backend)
            })
    }

    private func emit(_ staged: ChainLedger.Staged, _ change: inout TableChange) {
        emitNew(staged.created, &change)
        for spec in staged.revived {
            // Who stuck to the endpoint when it went away is forgotten (spec row 26).
            if let set = spec.affinitySet { change.operations.append(.flushSet(set)) }
        }
        for spec in staged.rewritten where !staged.created.contains(where: { $0.name == spec.name }) {
            rewrite(spec, &change)
        }
    }
    private func emitNew(_ specs: [ChainSpec], _ change: inout TableChange) {
        for spec in specs {
            if let set = spec.affinitySet { change.preparation.append(.addSet(affinitySetDefinition(set))) }
        }
        for spec in specs { change.preparation.append(.addChain(spec.name, spec.base)) }
        for spec in specs {
            for rule in spec.rules { change.preparation.append(.addRule(chain: spec.name, rule)) }
        }
    }
    private func rewrite(_ spec: ChainSpec, _ change: inout TableChange) {
        change.operations.append(.flushChain(spec.name))
        for rule in spec.rules { change.operations.append(.addRule(chain: spec.name, rule)) }
    }
    private func affinitySetDefinition(_ name: String) -> SetDefinition { affinitySet(name, family) }

    private func stageGeneration(_ number: UInt64, _ staged: inout Staged) {
        var key = ElementKey(.generation)
        key.slot = UInt32(truncatingIfNeeded: number)
        if let generation { staged.change.delete(generation) }
        let element = TableElement(key: key, comment: "generation \(number)")
        staged.change.add(element)
        staged.generation = element
    }

    // MARK: Everything

    /// The difference between what the kernel holds and the plan, which says everything. `observed` nil: no such table,
    /// or one to be replaced.
    func stageFull(_ plan: FamilyPlan, observed: TableObservation?, replaces: Bool) -> Staged {
        reset()
        var staged = Staged(change: TableChange(table))
        staged.found = TableDigest()
        var after: [TableElement] = nodeElements(plan.node, family) + meshElements(plan.node.mesh, family)
        var ids: [ChainID] = []
        for program in plan.services.compactMap(\.new) {
            let elements = ServiceElements(program, plan.node, companion)
            after += elements.own
            for key in elements.shared { staged.sharedCounts[key, default: 0] += 1 }
            ids += elements.chains
            var changed: [UInt64] = []
            stageSticky(FamilyPlan.Service(old: nil, new: program), &staged, &changed)
        }
        for key in staged.sharedCounts.keys { after.append(TableElement(key: key)) }
        let context = context(plan.node, staged)
        for id in ids { chains.retain(id, &staged.chains, context) }
        let specs = ConstantChain.all(family, plan.node) + staged.chains.created
        if let observed, !replaces {
            stageSets(observed, &staged)
            stageFoundChains(observed, specs, &staged)
            var before = observed.elements
            generation = before.values.first { $0.key.set == .generation }
            before = before.filter { $0.key.set != .generation }
            staged.found = TableDigest(observed.elements.values)
            stageElements(before, after, &staged)
        } else {
            staged.change.isNewTable = true
            if replaces { staged.change.preparation.append(.deleteTable) }
            staged.change.preparation.append(.addTable(comment: TableLayout.comment(node: plan.node.nodeName)))
            for set in TableSet.allCases { staged.change.preparation.append(.addSet(set.definition(family))) }
            emitNew(specs, &staged.change)
            for element in after { staged.change.add(element) }
        }
        if !staged.change.isEmpty { stageGeneration(plan.generation, &staged) }
        return staged
    }

    private func stageSets(_ observed: TableObservation, _ staged: inout Staged) {
        for set in TableSet.allCases where observed.sets[set.name] == nil {
            staged.change.preparation.append(.addSet(set.definition(family)))
        }
        let wanted = Set(TableSet.allCases.map(\.name)).union(staged.chains.created.compactMap(\.affinitySet))
        staged.foundSets = Set(observed.sets.keys).subtracting(wanted)
    }

    private func stageFoundChains(_ observed: TableObservation, _ specs: [ChainSpec], _ staged: inout Staged) {
        var missing: [ChainSpec] = []
        for spec in specs {
            guard let found = observed.chains[spec.name] else {
                missing.append(spec)
                continue
            }
            if found.fingerprints != spec.rules.map({ $0.fingerprint(in: table) }) { rewrite(spec, &staged.change) }
        }
        emitNew(
            missing.map { spec in
                var spec = spec
                // The set may have outlived its chain.
                if let set = spec.affinitySet, observed.sets[set] != nil { spec.affinitySet = nil }
                return spec
            }, &staged.change)
        for spec in specs where observed.chains[spec.name] != nil {
            guard let set = spec.affinitySet, observed.sets[set] == nil else { continue }
            staged.change.preparation.append(.addSet(affinitySetDefinition(set)))
        }
        let wanted = Set(specs.map(\.name))
        for name in observed.chains.keys.sorted() where !wanted.contains(name) {
            staged.foundChains.append((name, nil))
        }
    }

    private func reset() {
        shared = [:]
        chains = ChainLedger()
        garbageElements = [:]
        garbageSets = []
        generation = nil
        sticky = [:]
        stickyEndpoints = [:]
    }

    // MARK: After the commit

    func accept(_ staged: Staged) {
        chains.accept(staged.chains)
        if let found = staged.found { digest = found }
        digest += staged.change.digest
        for (key, difference) in staged.sharedCounts {
            let count = shared[key, default: 0] + difference
            shared[key] = count == 0 ? nil : count
        }
        for key in staged.revivedElements { garbageElements[key] = nil }
        for element in staged.newGarbage { garbageElements[element.key] = element }
        for (hash, service) in staged.sticky { sticky[hash] = service }
        for (hash, endpoint) in staged.stickyEndpoints { stickyEndpoints[hash] = endpoint }
        for (name, set) in staged.foundChains { chains.adoptGarbage(name, affinitySet: set) }
        garbageSets.formUnion(staged.foundSets)
        if let element = staged.generation { generation = element }
    }

    // MARK: Garbage

    struct Collection {
        let change: TableChange
        fileprivate let chains: [ChainSpec]
    }

    func stageCollection() -> Collection {
        var change = TableChange(table)
        for element in garbageElements.values { change.delete(element) }
        let specs = chains.collectable()
        // Their rules go first: they may lead to one another, in any order.
        for spec in specs { change.afterwards.append(.flushChain(spec.name)) }
        for spec in specs { change.afterwards.append(.deleteChain(spec.name)) }
        for set in specs.compactMap(\.affinitySet) + garbageSets.sorted() { change.afterwards.append(.deleteSet(set)) }
        return Collection(change: change, chains: specs)
    }
    func accept(_ collection: Collection) {
        chains.forget(collection.chains)
        digest += collection.change.digest
        garbageElements = [:]
        garbageSets = []
    }
}

extension NodeProgram {
    /// All but what becomes elements.
    fileprivate func hasSameRules(as other: NodeProgram) -> Bool {
        (detector, uplinks, masqueradeAll, masqueradeBit, proxyListeners)
            == (other.detector, other.uplinks, other.masqueradeAll, other.masqueradeBit, other.proxyListeners)
            && (mesh.enrolled.isEmpty, mesh.unlisted) == (other.mesh.enrolled.isEmpty, other.mesh.unlisted)
    }
}
