/// Cluster state -> programs, incrementally: only dirty services are compiled, and a service that compiles to what it
/// was is no change. Compiling everything from scratch gives the same result (tested).
package import Cluster
package import DataplaneIR

/// Programs that differ from before.
package struct ProgramChanges: Equatable, Sendable {
    package var upserts: Set<ServicePortID> = []
    package var removals: Set<ServicePortID> = []
    /// What they replace or remove.
    package var old: [ServicePortID: ServiceProgram] = [:]

    package init() {}
    package var isEmpty: Bool { upserts.isEmpty && removals.isEmpty }
}

package struct Compiler: Sendable {
    package private(set) var node: NodeFacts
    package private(set) var programs: [ServicePortID: ServiceProgram] = [:]
    package private(set) var healthChecks: [ObjectName: HealthCheck] = [:]
    package private(set) var findings: [ObjectName: [Finding]] = [:]
    package private(set) var options: CompilerOptions
    /// Services that all updates together compiled: what many of them claim must not multiply it (tested).
    package private(set) var made = 0
    private var claims = AddressClaims()
    /// What each service asked for, before conflicts were settled.
    private var asked: [ObjectName: Asked] = [:]

    private struct Asked {
        var creationTime: Int64
        var claims: [ServicePortID: [Frontend]]
    }

    package init(node: NodeFacts, options: CompilerOptions = CompilerOptions()) {
        self.node = node
        self.options = options
    }

    /// Brings the programs of the dirty services up to date.
    package mutating func update(_ dirty: Set<ObjectName>, from state: borrowing ClusterState) -> ProgramChanges {
        // A service may be compiled more than once here: what counts is the difference to the start.
        var before: [ServicePortID: ServiceProgram?] = [:]
        var queue = dirty
        // A service whose claims changed may hand an address to another, which must then be compiled again. Claims
        // depend on the state only, so each service can be re-queued by others but not by itself: this ends.
        while let name = queue.popFirst() {
            queue.formUnion(compileOne(name, state, &before))
        }
        var changes = ProgramChanges()
        for (id, old) in before where programs[id] != old {
            if programs[id] == nil { changes.removals.insert(id) } else { changes.upserts.insert(id) }
            changes.old[id] = old
        }
        return changes
    }

    /// The node's own facts changed: hints and locality may decide differently for every service.
    package mutating func update(node: NodeFacts, from state: borrowing ClusterState) -> ProgramChanges {
        guard node != self.node else { return ProgramChanges() }
        self.node = node
        return update(state.knownServices, from: state)
    }

    /// What pods of this node reach by tunnel from now on; the services that this is about are dirty.
    package mutating func setReach(_ reach: MeshReach) { options.reach = reach }

    /// The L7 proxy came up or went down: services with routes are what it may matter to.
    package mutating func update(
        proxy: CompilerOptions.L7Proxy, from state: borrowing ClusterState
    ) -> ProgramChanges {
        guard proxy != options.proxy else { return ProgramChanges() }
        options.proxy = proxy
        return update(state.routedServices, from: state)
    }

    /// Compiles one service; returns the others that its claims touch.
    private mutating func compileOne(
        _ name: ObjectName, _ state: borrowing ClusterState, _ before: inout [ServicePortID: ServiceProgram?]
    ) -> Set<ObjectName> {
        made += 1
        let service = state.services[name]
        var compiled = CompiledService()
        if let service {
            compiled = compile(
                service, slices: state.slices(of: name), routes: state.routes(of: name), node: node, options: options)
        }
        let touched = claim(name, compiled.programs, creationTime: service?.creationTime ?? 0)
        var kept: [ServiceProgram] = []
        for program in compiled.programs {
            let (settled, losses) = settle(program)
            compiled.findings += losses
            if let settled { kept.append(settled) }
        }
        let keptIDs = Set(kept.map(\.id))
        func set(_ id: ServicePortID, _ program: ServiceProgram?) {
            if before[id] == nil { before.updateValue(programs[id], forKey: id) }
            programs[id] = program
        }
        for id in previousIDs(of: name) where !keptIDs.contains(id) { set(id, nil) }
        for program in kept { set(program.id, program) }
        asked[name] =
            compiled.programs.isEmpty
            ? nil
            : Asked(
                creationTime: service?.creationTime ?? 0,
                claims: Dictionary(
                    compiled.programs.map { ($0.id, $0.frontends) }, uniquingKeysWith: { first, _ in first }))
        healthChecks[name] = compiled.healthCheck
        findings[name] = compiled.findings.isEmpty ? nil : compiled.findings
        return touched
    }

    private func previousIDs(of name: ObjectName) -> [ServicePortID] { asked[name].map { Array($0.claims.keys) } ?? [] }

    /// Replaces the claims of a service; returns the other services whose standing may have changed.
    private mutating func claim(_ name: ObjectName, _ programs: [ServiceProgram], creationTime: Int64) -> Set<
        ObjectName
    > {
        var touched = Set<ObjectName>()
        let old = asked[name]
        let new = Dictionary(programs.map { ($0.id, $0.frontends) }, uniquingKeysWith: { first, _ in first })
        let sameAge = old?.creationTime == creationTime
        for (id, frontends) in old?.claims ?? [:] where !(sameAge && new[id] == frontends) {
            for frontend in frontends { touched.formUnion(claims.remove(id, from: .init(frontend, id))) }
        }
        for (id, frontends) in new where !(sameAge && old?.claims[id] == frontends) {
            let claimant = AddressClaims.Claimant(creationTime: creationTime, id: id)
            for frontend in frontends { touched.formUnion(claims.add(claimant, to: .init(frontend, id))) }
        }
        return touched
    }

    /// Takes away the frontends that belong to another service; nil when nothing is left.
    private func settle(_ program: ServiceProgram) -> (ServiceProgram?, [Finding]) {
        var losses: [Finding] = []
        let won = program.frontends.filter { frontend in
            guard let winner = claims.winner(.init(frontend, program.id)), winner.id != program.id else { return true }
            let what = frontend.address.map { "\($0):\(frontend.port)" } ?? "node port \(frontend.port)"
            losses.append(
                Finding(
                    reason: "address-conflict",
                    object: ObjectID(.service, ObjectName(program.id.namespace, program.id.service)),
                    field: frontend.kind == .nodePort ? "spec.ports.nodePort" : "spec.ports",
                    message:
                        "\(what)/\(program.id.transport) is not served for it: the older service "
                        + "\(winner.id.displayName) has it; give one of them another address or port"))
            return false
        }
        guard won.count < program.frontends.count else { return (program, []) }
        guard !won.isEmpty else { return (nil, losses) }
        return (program.replacing(frontends: won), losses)
    }
}

extension ServiceProgram {
    fileprivate func replacing(frontends: [Frontend]) -> ServiceProgram {
        ServiceProgram(
            id: id, frontends: frontends, backends: backends, clusterRange: clusterRange, localRange: localRange,
            internalPolicy: internalPolicy, externalPolicy: externalPolicy, affinitySeconds: affinitySeconds,
            appProtocol: appProtocol)
    }
}
