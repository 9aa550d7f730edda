/// Which interface addresses some service claims. Kept up to date from the programs that changed, so that a change
/// costs the same however many services there are.
import Addressing
import DataplaneIR

struct ServiceAddressIndex: Sendable {
    private var local: Set<IPAddress> = []
    /// Only services that claim an interface address: few or none.
    private var claims: [ServicePortID: Set<IPAddress>] = [:]

    var addresses: Set<IPAddress> { claims.values.reduce(into: []) { $0.formUnion($1) } }

    mutating func update(_ ids: some Sequence<ServicePortID>, programs: [ServicePortID: ServiceProgram]) {
        for id in ids { update(id, programs[id]) }
    }

    /// Interface addresses changed: every service must be looked at again.
    mutating func reset(local: Set<IPAddress>, programs: [ServicePortID: ServiceProgram]) {
        self.local = local
        claims = [:]
        for (id, program) in programs { update(id, program) }
    }

    private mutating func update(_ id: ServicePortID, _ program: ServiceProgram?) {
        var found = Set<IPAddress>()
        for frontend in program?.frontends ?? [] {
            if let address = frontend.address, local.contains(address) { found.insert(address) }
        }
        if found.isEmpty {
            claims.removeValue(forKey: id)
        } else {
            claims[id] = found
        }
    }
}
