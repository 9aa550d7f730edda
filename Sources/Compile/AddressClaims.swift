/// Who may have an address:port/protocol when several services ask for it: the older service, then the first by name,
/// whatever the order of arrival (spec row 17).
import Addressing
import Cluster
import DataplaneIR

struct AddressClaims {
    /// A node port claims the number on every node address: `address` is nil.
    struct Key: Hashable {
        let address: IPAddress?
        let port: UInt16
        let transport: TransportProtocol
        let family: AddressFamily

        init(_ frontend: Frontend, _ id: ServicePortID) {
            address = frontend.address
            port = frontend.port
            transport = id.transport
            family = id.family
        }
    }
    struct Claimant: Hashable {
        let creationTime: Int64
        let id: ServicePortID

        func goesBefore(_ other: Claimant) -> Bool {
            creationTime == other.creationTime ? id < other.id : creationTime < other.creationTime
        }
        var service: ObjectName { ObjectName(id.namespace, id.service) }
    }

    private var winners: [Key: Claimant] = [:]
    /// Who lost, and when it was created: few keys have any, but anybody may claim what many have.
    private var losers: [Key: [ServicePortID: Int64]] = [:]

    func winner(_ key: Key) -> Claimant? { winners[key] }

    /// Adds a claim; returns the services whose standing it changed, the claimant's own left out.
    mutating func add(_ claimant: Claimant, to key: Key) -> [ObjectName] {
        guard let winner = winners[key], winner.id != claimant.id else {
            winners[key] = claimant
            return []
        }
        guard claimant.goesBefore(winner) else {
            losers[key, default: [:]][claimant.id] = claimant.creationTime
            return []
        }
        winners[key] = claimant
        losers[key, default: [:]][claimant.id] = nil
        losers[key, default: [:]][winner.id] = winner.creationTime
        // Who lost to the one before loses to this one, and says so.
        return services(losers[key]?.keys, but: claimant.service)
    }

    /// Withdraws a claim; returns the services that gain by it, or lose to another one now.
    mutating func remove(_ id: ServicePortID, from key: Key) -> [ObjectName] {
        guard winners[key]?.id == id else {
            forget(id, key)
            return []
        }
        let own = ObjectName(id.namespace, id.service)
        let touched = services(losers[key]?.keys, but: own)
        winners[key] = losers[key]?.lazy.map { Claimant(creationTime: $1, id: $0) }.min { $0.goesBefore($1) }
        if let next = winners[key] { forget(next.id, key) }
        return touched
    }

    private mutating func forget(_ loser: ServicePortID, _ key: Key) {
        guard losers[key]?.removeValue(forKey: loser) != nil else { return }
        if losers[key]?.isEmpty == true { losers[key] = nil }
    }

    private func services(_ ids: (some Sequence<ServicePortID>)?, but own: ObjectName) -> [ObjectName] {
        ids?.map { ObjectName($0.namespace, $0.service) }.filter { $0 != own } ?? []
    }
}
