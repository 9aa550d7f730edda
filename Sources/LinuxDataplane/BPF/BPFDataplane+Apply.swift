/// Writing a plan: adopt, node facts, services, links, stale UDP sockets, in this order.
import Addressing
import BPF
import CDataplaneABI
package import DataplaneIR
import Glibc
package import Reconcile

extension BPFDataplane {
    package func write(_ plan: Plan) throws(DataplaneError) -> Receipt {
        do throws(BPFError) {
            return try writeAll(plan)
        } catch {
            throw DataplaneError(error)
        }
    }

    private func writeAll(_ plan: Plan) throws(BPFError) -> Receipt {
        var receipt = Receipt(generation: plan.generation)
        // A full plan puts right whatever is wrong: so it starts from what is really there.
        let checkEverything = isMirrorDoubtful || plan.isFull
        if isMirrorDoubtful || (plan.isFull && !isFresh) { try adopt() }
        isFresh = false
        isMirrorDoubtful = true
        if plan.isFull { receipt.operations += try restorePins() }
        receipt.operations += try writeNode(plan.node)
        try writeServices(plan, checkEverything: checkEverything, &receipt)
        if plan.isFull { narrowBounds() }
        isMirrorDoubtful = false

        let hooks = CgroupHook.needed(by: plan.node)
        if checkEverything || isStaged || attachment.ensured != hooks {
            if hooks.contains(.sockOps), try !attachment.isPinned(.sockOps) { try forgetProxyClients() }
            receipt.operations += try attachment.ensure(hooks, faults)
        }
        receipt.operations += switchMesh(plan.node)
        if isStaged {
            try pins.putStagingInPlace()
            isStaged = false
        }
        maps.meta.pointee.plan_generation = plan.generation
        if mustCutSockets {
            receipt.staleFlowsRemoved = try cutStaleSockets()
            mustCutSockets = false
        }
        return receipt
    }

    // MARK: Adoption

    /// Builds the mirror from the maps. What is not whole in them stops serving here and is removed by the next apply.
    func adopt() throws(BPFError) {
        let state = try KernelState(reading: maps)
        var mirror = BPFMirror(sizes: options.sizes)
        mirror.strayFrontends = state.strayFrontends
        mirror.strayNames = state.strayNames
        var slots = Set<UInt32>()
        for service in state.services {
            if mirror.adopt(service) {
                slots.insert(service.slot)
            } else {
                mirror.strayNames.append(service.serviceID)
                mirror.strayFrontends += service.program.keys.map(\.raw)
            }
            maps.meta.pointee.next_svc_id = max(maps.meta.pointee.next_svc_id, service.serviceID + 1)
        }
        for address in state.liveAddresses {
            mirror.setOwner(.clusterIPMark, of: FrontendKey(live: address))
        }
        mirror.nodeAddresses = Set(try maps.nodeAddresses.entries().map(\.key.value))
        mirror.ranges = try maps.ranges()
        mirror.meshAddresses = Set(try maps.meshAddresses.keys().map(\.value))
        self.mirror = mirror
        comparison = nil
        let words = try maps.services.elements(upTo: maps.services.count)
        for slot in 0..<maps.services.count where words[slot] != 0 && !slots.contains(UInt32(slot)) {
            try maps.publish(UInt32(slot), Published(word: 0))
        }
        // Blocks that nobody refers to any more may be written at once after this.
        try waitForReaders()
    }

    private func restorePins() throws(BPFError) -> Int {
        let directory = isStaged ? pins.staging : pins.maps
        try BPFFileSystem.makeDirectory(directory)
        var operations = 0
        for (name, descriptor) in maps.descriptors {
            let path = "\(directory)/\(name)"
            if let pinned = try BPFDescriptor.pinned(at: path), try pinned.mapID() == descriptor.mapID() {
                continue
            }
            try faults.check("pin map \(name)")
            try descriptor.replacePin(at: path)
            operations += 1
        }
        for name in BPFFileSystem.names(in: directory) where !BPFMaps.names.contains(name) {
            try BPFFileSystem.remove("\(directory)/\(name)")
            operations += 1
        }
        return operations
    }

    // MARK: Services

    private func writeServices(_ plan: Plan, checkEverything: Bool, _ receipt: inout Receipt) throws(BPFError) {
        var removals = plan.removals
        if plan.isFull {
            let wanted = Set(plan.upserts.map(\.id))
            removals = mirror.services.keys.filter { !wanted.contains($0) }
            clusterIPs = ClusterIPClaims()
        }
        for id in removals { clusterIPs.set(id, []) }
        var waiting: [ServiceProgram] = []
        for program in plan.upserts {
            clusterIPs.set(program.id, program.clusterIPs)
            let frontends = servable(program, &receipt)
            if frontends.isEmpty {
                removals.append(program.id)
                continue
            }
            let wanted = program.kernelProgram(frontends)
            if mirror.services[program.id]?.program != wanted { waiting.append(wanted) }
        }
        var addresses = clusterIPs.takeTouched()
        if checkEverything { addresses.formUnion(clusterIPs.addresses.union(mirror.liveAddresses)) }
        widenBounds(waiting, addresses)
        receipt.operations += try markClusterIPs(addresses.filter { clusterIPs.contains($0) })
        var refused = try commit(&waiting, removals, &receipt)
        if !refused.isEmpty, !removals.isEmpty || mirror.hasRetired {
            // What this plan removed may have made room.
            refused = try commit(&waiting, [], &receipt)
        }
        receipt.refused.merge(refused) { $1 }
        receipt.operations += try unmarkClusterIPs(addresses.filter { !clusterIPs.contains($0) })
    }

    /// Writes what fits and leaves the rest in `waiting`, with the reason for each.
    private func commit(
        _ waiting: inout [ServiceProgram], _ removals: [ServicePortID], _ receipt: inout Receipt
    ) throws(BPFError) -> [ServicePortID: String] {
        var refused: [ServicePortID: String] = [:]
        var left: [ServiceProgram] = []
        var transaction = BPFTransaction(maps: maps, faults: faults)
        for id in removals {
            if let record = mirror.services[id] { transaction.remove(record) }
        }
        for program in waiting {
            if let reason = try transaction.add(program, &mirror) {
                refused[program.id] = reason
                left.append(program)
            }
        }
        waiting = left
        guard !transaction.isEmpty || !mirror.strayNames.isEmpty || !mirror.strayFrontends.isEmpty else {
            return refused
        }
        mustCutSockets = mustCutSockets || transaction.mayLeaveStaleSockets
        try transaction.commit(&mirror)
        receipt.operations += transaction.operations
        return refused
    }

    /// The frontends that sockets can be translated for. The companion sees packets and takes the others.
    private func servable(_ program: ServiceProgram, _ receipt: inout Receipt) -> [Frontend] {
        if program.id.transport == .sctp {
            if !options.companionHandlesSourceRanges {
                receipt.refused[program.id] = "SCTP cannot be served by eBPF alone; run the companion (--companion all)"
            }
            return []
        }
        guard !options.companionHandlesSourceRanges else { return program.frontends }
        let frontends = program.frontends.filter(\.sourceRanges.isEmpty)
        if frontends.count < program.frontends.count {
            receipt.refused[program.id] =
                "its load-balancer addresses with source ranges cannot be served by eBPF alone; "
                + "run the companion (--companion all)"
        }
        return frontends
    }

    // MARK: Cluster IPs in use

    /// A port that the address does not have is refused from now on (spec row 102).
    private func markClusterIPs(_ addresses: Set<IPAddress>) throws(BPFError) -> Int {
        let room = max(maps.frontends.maxEntries - mirror.owners.count, 0)
        let keys = addresses.map { FrontendKey(live: $0) }.filter { mirror.owners[$0] == nil }.prefix(room)
        guard !keys.isEmpty else { return 0 }
        try faults.check("update map frontends")
        let values = keys.map { heddle_frontend($0, serviceID: 0, slot: 0, kind: BPFMirror.Owner.clusterIPMark.kind) }
        var written = 0
        try maps.frontends.update(batch: keys.map(\.raw), values, written: &written)
        for key in keys { mirror.setOwner(.clusterIPMark, of: key) }
        return written
    }
    private func unmarkClusterIPs(_ addresses: Set<IPAddress>) throws(BPFError) -> Int {
        let keys = addresses.map { FrontendKey(live: $0) }.filter { mirror.owners[$0] != nil }
        guard !keys.isEmpty else { return 0 }
        try faults.check("delete from map frontends")
        var deleted = 0
        try maps.frontends.delete(batch: keys.map(\.raw), deleted: &deleted)
        for key in keys { mirror.setOwner(nil, of: key) }
        return deleted
    }
}

extension BPFMirror.Owner {
    static let clusterIPMark = BPFMirror.Owner(
        serviceID: 0, slot: 0, kind: Frontend.Kind.clusterIP.abiNumber)
}

extension BPFTransaction {
    /// Some UDP service lost a serving backend or a frontend, or went altogether (spec rows 114, 119, 120), or has
    /// endpoints again that sockets wait for.
    var mayLeaveStaleSockets: Bool {
        if removals.contains(where: { $0.program.id.transport == .udp }) { return true }
        return changes.contains { change in
            guard let old = change.old?.program, old.id.transport == .udp else { return false }
            let new = change.new.program
            return !change.dropped.isEmpty || !change.moved.isEmpty
                || !old.servingAddresses.isSubset(of: new.servingAddresses)
                || Self.setsInUse.contains { $0(old).isEmpty && !$0(new).isEmpty }
        }
    }
    /// By policy; of an external address the cluster set may be used under Local, too (block.h).
    private static let setsInUse: [@Sendable (ServiceProgram) -> Range<Int>] = [
        { $0.range(for: $0.internalPolicy) }, { $0.range(for: $0.externalPolicy) }, { $0.clusterRange },
    ]
}
