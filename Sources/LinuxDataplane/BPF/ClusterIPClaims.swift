/// Which cluster IPs are in use, by whom. Several service ports share one; it counts as in use while one of them is
/// left, even when only the companion serves that port (SCTP).
import Addressing
import DataplaneIR

struct ClusterIPClaims {
    private var byService: [ServicePortID: [IPAddress]] = [:]
    private var counts: [IPAddress: Int] = [:]
    /// Addresses whose claims changed since `takeTouched`.
    private var touched: Set<IPAddress> = []

    mutating func set(_ id: ServicePortID, _ addresses: [IPAddress]) {
        let old = byService[id] ?? []
        guard old != addresses else { return }
        touched.formUnion(old)
        touched.formUnion(addresses)
        for address in addresses { counts[address, default: 0] += 1 }
        for address in old {
            let rest = counts[address, default: 1] - 1
            counts[address] = rest == 0 ? nil : rest
        }
        byService[id] = addresses.isEmpty ? nil : addresses
    }
    func contains(_ address: IPAddress) -> Bool { counts[address] != nil }
    mutating func takeTouched() -> Set<IPAddress> {
        defer { touched = [] }
        return touched
    }
    var addresses: Set<IPAddress> { Set(counts.keys) }
}

extension ServiceProgram {
    var clusterIPs: [IPAddress] { frontends.compactMap { $0.kind == .clusterIP ? $0.address : nil } }
}
