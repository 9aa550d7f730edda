/// Takes our rules out of the kernel while connections that they have begun go on. The kernel translates the packets of
/// such a connection only while there is some table with NAT: ours stays, with no service in it, until none is left.
import Addressing
package import DataplaneIR
import Netlink
import Nftables
import Reconcile

package enum NftablesDeparture {
    /// Our tables that translate connections to services.
    package static func inForce() throws(DataplaneError) -> [String] {
        try tables().filter(\.hasServices).map { "table \($0.table.label)" }
    }

    /// False: a connection needs the empty table.
    package static func run(nodeName: String) throws(DataplaneError) -> Bool {
        let tables = try tables()
        guard !tables.isEmpty else { return true }
        if tables.contains(where: \.hasServices) {
            let node = NodeProgram(nodeName: nodeName)
            _ = try NftablesDataplane().write(Plan(generation: 1, node: node, upserts: [], removals: [], isFull: true))
        }
        guard try !hasConnections() else { return false }
        try NftablesCleanup.run()
        return true
    }

    private static func tables() throws(DataplaneError) -> [(table: Table, hasServices: Bool)] {
        do throws(NetlinkError) {
            let connection = try NftablesConnection()
            var result: [(Table, Bool)] = []
            for family in AddressFamily.allCases {
                let table = Table(family, TableLayout.name)
                guard let found = try TableObservation.read(table, connection, withElements: false),
                    TableLayout.parse(comment: found.comment ?? "") != nil
                else { continue }
                var hasServices = false
                for set in [TableSet.serviceIPs, .serviceNodePorts, .noEndpointServices, .noEndpointNodePorts] {
                    if hasServices { break }
                    hasServices = try !found.readElements(of: set, table, connection).isEmpty
                }
                result.append((table, hasServices))
            }
            return result
        } catch {
            throw DataplaneError(error, remedy: "reading tables needs CAP_NET_ADMIN")
        }
    }

    /// Some connection is translated, by whomever.
    private static func hasConnections() throws(DataplaneError) -> Bool {
        do throws(NetlinkError) {
            let client = try ConntrackClient()
            for family in AddressFamily.allCases {
                if try !client.translatedFlows(family).isEmpty { return true }
            }
            return false
        } catch {
            throw DataplaneError(error)
        }
    }
}
