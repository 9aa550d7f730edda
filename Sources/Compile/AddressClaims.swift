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

    /// Most keys have one claimant: no array for them.
    private enum Holders {
        case one(Claimant)
        case many([Claimant])

        var all: [Claimant] {
            switch self {
            case .one(let claimant): [claimant]
            case .many(let claimants): claimants
            }
        }
    }
    private var holders: [Key: Holders] = [:]

    func winner(_ key: Key) -> Claimant? {
        switch holders[key] {
        case nil: nil
        case .one(let claimant): claimant
        case .many(let all): all.min { $0.goesBefore($1) }
        }
    }

    /// Adds a claim; returns the services whose standing it may have changed, the claimant's own left out.
    mutating func add(_ claimant: Claimant, to key: Key) -> [ObjectName] {
        guard let existing = holders[key]?.all else {
            holders[key] = .one(claimant)
            return []
        }
        holders[key] = .many(existing.filter { $0.id != claimant.id } + [claimant])
        return existing.map(\.service).filter { $0 != claimant.service }
    }

    /// Withdraws a claim; returns the services that may gain by it.
    mutating func remove(_ id: ServicePortID, from key: Key) -> [ObjectName] {
        guard let existing = holders[key]?.all else { return [] }
        let rest = existing.filter { $0.id != id }
        holders[key] = rest.isEmpty ? nil : rest.count == 1 ? .one(rest[0]) : .many(rest)
        return rest.map(\.service).filter { $0 != ObjectName(id.namespace, id.service) }
    }
}
