/// What the kernel holds, read back from it: the answer of `agentctl dump-maps`, the same shape for both dataplanes
/// (CONTRACT, "dump-maps -o json"). Made without asking the agent.
import Addressing
package import DataplaneIR

package struct KernelDump: Sendable, Equatable, Codable {
    package struct Frontend: Sendable, Equatable, Codable {
        /// An address, or `*` for every node-port address.
        package var address: String
        package var port: UInt16
        package var `protocol`: String
        package var kind: String
        /// `namespace/name:port-name`.
        package var service: String
        package var action: String
        package var policy: String
        package var affinitySeconds: UInt32
        package var backends: [Backend]

        package init(
            address: String, port: UInt16, protocol: String, kind: String, service: String, action: String,
            policy: String, affinitySeconds: UInt32, backends: [Backend]
        ) {
            self.address = address
            self.port = port
            self.protocol = `protocol`
            self.kind = kind
            self.service = service
            self.action = action
            self.policy = policy
            self.affinitySeconds = affinitySeconds
            self.backends = backends
        }
    }
    package struct Backend: Sendable, Equatable, Codable {
        package var address: String
        package var port: UInt16
        /// `active` or `terminating`.
        package var state: String
        package var local: Bool
        package var weight: Int

        package init(address: String, port: UInt16, state: String, local: Bool, weight: Int = 1) {
            self.address = address
            self.port = port
            self.state = state
            self.local = local
            self.weight = weight
        }
    }

    package var node: String
    package var dataplane: String
    package var generation: UInt64
    package var frontends: [Frontend]
    package var maps: [MapUsage]

    package init(node: String, dataplane: String, generation: UInt64, frontends: [Frontend], maps: [MapUsage]) {
        self.node = node
        self.dataplane = dataplane
        self.generation = generation
        self.frontends = frontends
        self.maps = maps
    }
}

extension KernelDump.Frontend: Comparable {
    /// `namespace/name` and the port's name.
    package var serviceAndPort: (Substring, Substring) {
        let end = service.utf8.firstIndex(of: UInt8(ascii: ":")) ?? service.endIndex
        return (service[..<end], service[end...].dropFirst())
    }
    /// By service, and within it as people read. Field by field: a tuple of them would cost a count of references each.
    package static func < (a: Self, b: Self) -> Bool {
        if a.service != b.service { return isOrdered(a.service, b.service) }
        if a.protocol != b.protocol { return a.protocol < b.protocol }
        if a.kind != b.kind { return a.kind < b.kind }
        return a.address != b.address ? a.address < b.address : a.port < b.port
    }
    /// The colon before all other letters: `ns/web` and `ns/web:http` must not have `ns/web-2` between them.
    private static func isOrdered(_ a: String, _ b: String) -> Bool {
        let colon = UInt8(ascii: ":")
        for (one, other) in zip(a.utf8, b.utf8) where one != other {
            return other != colon && (one == colon || one < other)
        }
        return a.utf8.count < b.utf8.count
    }
}

extension KernelDump.Frontend {
    /// As it looks in the kernel once the program is in force. `withShortCuts`: in nftables, where the node and its
    /// pods reach every endpoint also of an external address under policy Local, and the dump shows those too.
    package init(_ frontend: Frontend, of program: ServiceProgram, withShortCuts: Bool = false) {
        let policy = program.policy(for: frontend.kind)
        var indices = Array(program.range(for: policy))
        if withShortCuts, frontend.kind.isExternal, policy == .local {
            indices = program.clusterRange + program.localRange.filter { !program.clusterRange.contains($0) }
        }
        let action =
            switch frontend.action {
            case .proxy: "proxy"
            case .tunnel: "tunnel"
            case .balance: !program.hasEndpoints ? "reject" : indices.isEmpty ? "drop" : "balance"
            }
        if frontend.action == .proxy { indices = [] }
        self.init(
            address: frontend.address?.description ?? "*", port: frontend.port,
            protocol: program.id.transport.description, kind: frontend.kind.rawValue, service: program.id.displayName,
            action: action, policy: policy.rawValue, affinitySeconds: program.affinitySeconds ?? 0,
            backends: indices.map { index in
                let backend = program.backends[index]
                return KernelDump.Backend(
                    address: backend.address.address.description, port: backend.address.port,
                    state: backend.state.contains(.terminating) ? "terminating" : "active", local: backend.isLocal)
            })
    }
}
