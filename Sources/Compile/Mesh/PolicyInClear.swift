/// What access policies make of connections in the clear, which show no identity. The kernel tells them by the pod's
/// port: whatever is not let in from every address there is refused, as if the mode were STRICT.
import Addressing
import DataplaneIR
import RouteIR

extension MeshPodProgram {
    /// All pods of a node share the kernel's table of ports, and whoever writes policies must not fill it.
    package static let mostPorts = 64

    /// False: more ports than that would differ, and so all are refused.
    mutating func refuse(byPolicies policies: PolicyProgram, at address: IPAddress) -> Bool {
        guard policies.policies.contains(where: \.isEnforced) else { return hasFewPorts || refuseAll() }
        let named = policies.ports.union(portModes.keys)
        guard named.count <= Self.mostPorts * 16 else { return refuseAll() }
        let old = self
        let mode = { (port: UInt16) in
            let question = PolicyQuestion(source: nil, destination: address, port: port)
            return policies.verdict(of: question).isAllowed ? old.mode(of: port) : .strict
        }
        // All that nobody names are alike.
        self.mode = (1...UInt16.max).first { !named.contains($0) }.map(mode) ?? .strict
        portModes = named.reduce(into: [:]) { modes, port in modes[port] = mode(port) }
            .filter { $0.value != self.mode }
        return hasFewPorts || refuseAll()
    }
    private var hasFewPorts: Bool { portModes.count <= Self.mostPorts }
    private mutating func refuseAll() -> Bool {
        (mode, portModes) = (.strict, [:])
        return false
    }
}

extension PolicyProgram {
    /// That a rule names, as those that are meant or as those that are not.
    fileprivate var ports: Set<UInt16> {
        let rules = policies.lazy.filter(\.isEnforced).flatMap(\.rules)
        let tests = rules.flatMap { ($0.sources + $0.operations + [$0.conditions]).joined() }
        return tests.reduce(into: []) { ports, test in
            if case .port(let own) = test.operand { ports.formUnion(own) }
        }
    }
}

/// The policies of the pods of this node, each kept while some pod has it.
struct PolicyUse: Sendable {
    private(set) var policies: [String: AccessPolicy] = [:]
    private var byAddress: [IPAddress: [String]] = [:]
    private var users: [String: Int] = [:]

    mutating func set(_ new: [AccessPolicy], of address: IPAddress) {
        for policy in new {
            users[policy.name, default: 0] += 1
            policies[policy.name] = policy
        }
        let old =
            new.isEmpty
            ? byAddress.removeValue(forKey: address) : byAddress.updateValue(new.map(\.name), forKey: address)
        for name in old ?? [] {
            users[name, default: 1] -= 1
            if users[name] == 0 { (users[name], policies[name]) = (nil, nil) }
        }
    }
}
