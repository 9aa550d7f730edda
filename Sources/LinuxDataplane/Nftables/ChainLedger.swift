/// The chains that services need, with how many verdicts and rules lead to each. A chain appears with the first and is
/// garbage after the last; it is deleted only when garbage is collected. Changes are staged and take effect when the
/// kernel has accepted them.
import DataplaneIR
import Nftables

struct ChainState: Equatable {
    /// nil: found in the kernel, and nothing we know of needs it.
    var id: ChainID?
    var references = 0
    var spec: ChainSpec
}

struct ChainLedger {
    private(set) var chains: [String: ChainState] = [:]
    /// Names of chains without references.
    private(set) var garbage: Set<String> = []

    struct Staged {
        fileprivate var states: [String: ChainState] = [:]
        /// In the order they were first needed.
        var created: [ChainSpec] = []
        var rewritten: [ChainSpec] = []
        /// Garbage that is needed again.
        var revived: [ChainSpec] = []
    }

    func references(to name: String) -> Int { chains[name]?.references ?? 0 }

    // MARK: Staging

    private func state(_ name: String, _ staged: Staged) -> ChainState? { staged.states[name] ?? chains[name] }

    func retain(_ id: ChainID, _ staged: inout Staged, _ context: ChainContext) {
        let name = id.name
        if var state = state(name, staged) {
            let wasGarbage = state.references == 0
            state.references += 1
            staged.states[name] = state
            if wasGarbage {
                staged.revived.append(state.spec)
                refresh(id, &staged, context)
            }
        } else {
            let spec = context.spec(id)
            staged.states[name] = ChainState(id: id, references: 1, spec: spec)
            for used in spec.uses { retain(used, &staged, context) }
            staged.created.append(spec)
        }
    }
    func release(_ id: ChainID, _ staged: inout Staged) {
        let name = id.name
        guard var state = state(name, staged), state.references > 0 else {
            preconditionFailure("chain \(name) is released more often than retained")
        }
        state.references -= 1
        staged.states[name] = state
    }
    /// Rewrites the chain if its rules should be others than they are.
    func refresh(_ id: ChainID, _ staged: inout Staged, _ context: ChainContext) {
        let name = id.name
        guard let state = state(name, staged), state.references > 0 else { return }
        let spec = context.spec(id)
        guard spec != state.spec else { return }
        for used in spec.uses { retain(used, &staged, context) }
        for used in state.spec.uses { release(used, &staged) }
        // Retaining may have touched the chain itself; read it again.
        staged.states[name] = ChainState(id: id, references: self.state(name, staged)?.references ?? 0, spec: spec)
        staged.rewritten.removeAll { $0.name == name }
        staged.rewritten.append(spec)
    }
    /// After a change of the node: every chain in use.
    func refreshAll(_ staged: inout Staged, _ context: ChainContext) {
        for state in chains.values where state.references > 0 {
            if let id = state.id { refresh(id, &staged, context) }
        }
    }

    // MARK: After the commit

    mutating func accept(_ staged: Staged) {
        for (name, state) in staged.states {
            chains[name] = state
            if state.references == 0 { garbage.insert(name) } else { garbage.remove(name) }
        }
    }
    /// A chain that the kernel has and nothing needs.
    mutating func adoptGarbage(_ name: String, affinitySet: String?) {
        chains[name] = ChainState(spec: ChainSpec(name: name, affinitySet: affinitySet))
        garbage.insert(name)
    }

    /// All that can go, counting what becomes free by that.
    func collectable() -> [ChainSpec] {
        var freed: [String: Int] = [:]
        var result: [ChainSpec] = []
        var work = garbage.sorted()
        while let name = work.popLast() {
            guard let state = chains[name] else { continue }
            result.append(state.spec)
            for used in state.spec.uses {
                let name = used.name
                freed[name, default: 0] += 1
                if let count = chains[name]?.references, count > 0, freed[name] == count { work.append(name) }
            }
        }
        return result
    }
    mutating func forget(_ collected: [ChainSpec]) {
        let names = Set(collected.map(\.name))
        for spec in collected {
            for used in spec.uses where !names.contains(used.name) { chains[used.name]?.references -= 1 }
        }
        for name in names {
            chains[name] = nil
            garbage.remove(name)
        }
    }
}
