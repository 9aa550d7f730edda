/// `agentctl certificates`: the certificates of this node's enrolled pods.
import AdminAPI
import ArgumentParser
import Glibc

struct Certificates: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The certificates of this node's enrolled pods: until when, and why not.",
        discussion: """
            Asks the L7 proxy, which made the keys and keeps them. One certificate is for all pods of a ServiceAccount.

            Examples:
              agentctl certificates
              agentctl certificates -o wide   with serial numbers
              agentctl certificates -o json
            """)

    @OptionGroup var options: SharedOptions

    func run() throws {
        let list = try options.client.get(CertificateList.self, AdminPath.proxy, [("what", "certificates")])
        guard options.output != .json else { return try Output.json(list) }
        Output.tell(certificateTable(list, now: time(nil), wide: options.output == .wide))
        if !list.isConnected { Output.complain("note: the L7 proxy has no connection to the agent\n") }
    }
}

func certificateTable(_ list: CertificateList, now: Int, wide: Bool) -> String {
    guard !list.entries.isEmpty else { return "no pod of this node is enrolled\n" }
    var table = wide ? Table("IDENTITY", "STATE", "ENDS", "SERIAL") : Table("IDENTITY", "STATE", "ENDS")
    for entry in list.entries {
        let end = entry.notAfter.map { endText($0, now: now) } ?? "-"
        if wide {
            table.add(entry.identity, entry.state, end, entry.serial ?? "-")
        } else {
            table.add(entry.identity, entry.state, end)
        }
    }
    let problems = list.entries.compactMap { entry in entry.problem.map { "\(entry.identity): \($0)\n" } }
    return table.text + (problems.isEmpty ? "" : "\n") + problems.joined()
}
