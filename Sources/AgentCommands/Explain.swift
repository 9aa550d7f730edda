/// `agentctl explain`: one flow, every decision about it, and every endpoint with the reason it is not taken.
import AdminAPI
import ArgumentParser

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What happens to one flow, why, and who may answer it.",
        discussion: """
            agentctl explain --from 10.244.1.11 --to 10.96.0.20:80
            agentctl explain --from shop/web-0 --to 10.96.0.10:53/UDP
            agentctl explain --from 203.0.113.7 --to 192.168.0.2:30080
            """)

    @Option(help: ArgumentHelp("Where the flow comes from.", valueName: "ip|namespace/pod"))
    var from: String
    @Option(help: ArgumentHelp("Where it goes.", valueName: "ip:port[/proto]"))
    var to: String
    @Option(
        help: ArgumentHelp(
            "Interface it arrives on; without it, the node's own addresses mean the node.", valueName: "name"))
    var interface: String?
    @OptionGroup var options: SharedOptions

    func run() throws {
        let parts = to.split(separator: "/", maxSplits: 1).map(String.init)
        var query = [(name: "from", value: from), (name: "to", value: parts.first ?? "")]
        if parts.count > 1 { query.append((name: "protocol", value: parts[1])) }
        if let interface { query.append((name: "interface", value: interface)) }
        let answer = try options.client.get(Explanation.self, AdminPath.explain, query)
        guard options.output != .json else { return try Output.json(answer) }
        Output.tell(Self.text(answer))
    }

    static func text(_ answer: Explanation) -> String {
        var text = "\(answer.from) -> \(answer.to): \(summary(answer))\n\n"
        var decisions = Table("DECIDED BY", "OUTCOME")
        for decision in answer.decisions { decisions.add(decision.source, decision.outcome) }
        text += decisions.text
        guard !answer.endpoints.isEmpty else { return text }
        var endpoints = Table("ENDPOINT", "TAKEN", "WHY NOT")
        for endpoint in answer.endpoints {
            let isTaken = answer.candidates.contains(endpoint.address)
            endpoints.add(
                endpoint.address, isTaken ? "yes" : "no", endpoint.excluded ?? (isTaken ? "" : answer.verdict))
        }
        return text + "\n" + endpoints.text
    }

    private static func summary(_ answer: Explanation) -> String {
        switch answer.verdict {
        case "balance":
            let count = answer.candidates.count
            return "\(answer.service ?? "?"), \(count == 1 ? "1 endpoint" : "one of \(count) endpoints"), "
                + "source address \(answer.source ?? "?"), generation \(answer.generation)"
        case "proxy":
            return "\(answer.service ?? "?"), routed: the L7 proxy at \(answer.candidates.joined()) chooses for each "
                + "request; add --method, --path and --header"
        case "reject": return "refused at once"
        case "drop": return "dropped"
        default: return "not ours, it goes where it wants to go"
        }
    }
}
