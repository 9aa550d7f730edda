/// Removes everything this dataplane puts into the kernel: its two tables, and nothing else.
import Addressing
package import DataplaneIR
import Netlink
import Nftables

package enum NftablesCleanup {
    /// What was removed, for the user.
    @discardableResult
    package static func run() throws(DataplaneError) -> [String] {
        do throws(NetlinkError) {
            let connection = try NftablesConnection()
            var batch = connection.makeBatch()
            var removed: [String] = []
            for family in AddressFamily.allCases {
                let table = Table(family, TableLayout.name)
                guard let found = try connection.tables(family).first(where: { $0.name == table.name }),
                    TableLayout.parse(comment: Userdata.comment(in: found.userdata) ?? "") != nil
                else { continue }
                batch.delete(table)
                removed.append("table \(table.label)")
            }
            if !batch.isEmpty { try connection.commit(&batch) }
            return removed
        } catch {
            throw DataplaneError(error, remedy: "removing tables needs CAP_NET_ADMIN")
        }
    }
}
