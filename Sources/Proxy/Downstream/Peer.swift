/// Who is at the other end of a client's connection: an address, and the workload that has it. Whoever wants to know
/// asks here.
import Addressing

struct Peer {
    let address: SocketAddress
    /// Without its port, as x-forwarded-for has it.
    let host: String

    init(_ address: SocketAddress) {
        self.address = address
        host = address.address.description
    }

    /// nil: nobody that this configuration knows.
    func workload(in table: RoutingTable) -> WorkloadEntry? { table.workload(at: address.address) }
}
