/// `agentctl explain`: one flow, every decision about it, and every endpoint with the reason it is not taken.
import AdminAPI
import ArgumentParser
import Observation

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What happens to one flow, why, and who may answer it.",
        discussion: """
            It computes with the rules that are in the kernel, from the objects it names. It sends nothing.

            Examples:
              agentctl explain --from 10.244.1.11 --to 10.96.0.20:80
              agentctl explain --from shop/web-0 --to 10.96.0.10:53/UDP
              agentctl explain --from 203.0.113.7 --to 192.168.0.2:30080
              agentctl explain --from shop/a --to 10.96.0.9:80 --path /b --header 'x: 1'
            """)

    @Option(help: ArgumentHelp("Where the flow comes from.", valueName: "ip|namespace/pod"))
    var from: String
    @Option(help: ArgumentHelp("Where it goes.", valueName: "ip:port[/proto]"))
    var to: String
    @Option(
        help: ArgumentHelp(
            "Interface it arrives on; without it, the one that leads back to --from, or the node itself.",
            valueName: "name"))
    var interface: String?
    @Option(help: "Method of a request sent over it, for routed services.")
    var method: String?
    @Option(help: "Its path, with a query if it has one.")
    var path: String?
    @Option(help: ArgumentHelp("One of its headers.", valueName: "name: value"))
    var header: [String] = []
    @OptionGroup var options: SharedOptions

    func run() throws {
        let parts = to.split(separator: "/", maxSplits: 1).map(String.init)
        var query = [(name: "from", value: from), (name: "to", value: parts.first ?? "")]
        if parts.count > 1 { query.append((name: "protocol", value: parts[1])) }
        if let interface { query.append((name: "interface", value: interface)) }
        if let method { query.append((name: "method", value: method)) }
        if let path { query.append((name: "path", value: path)) }
        if !header.isEmpty { query.append((name: "header", value: header.joined(separator: "\n"))) }
        let answer = try options.client.get(Explanation.self, AdminPath.explain, query)
        guard options.output != .json else { return try Output.json(answer) }
        Output.tell(Self.text(answer))
    }

    static func text(_ answer: Explanation) -> String {
        let arrival = answer.interface.map { $0.isEmpty ? "" : " (by \($0))" } ?? " (this node)"
        var text = "\(answer.from)\(arrival) -> \(answer.to): \(summary(answer))\n\n"
        var decisions = Table("DECIDED BY", "OF", "OUTCOME")
        for decision in answer.decisions {
            decisions.add(decision.source, decision.object ?? "-", decision.outcome)
        }
        text += decisions.text
        if let passage = answer.passage { text += "\n\(sentence(passage))\n" }
        if let routing = answer.routing { text += "\n" + Self.text(routing) }
        guard !answer.endpoints.isEmpty else { return text }
        let isInMesh = answer.endpoints.contains { $0.passage != nil }
        var endpoints =
            isInMesh
            ? Table("ENDPOINT", "SLICE", "TAKEN", "BY", "IDENTITY", "WHY NOT")
            : Table("ENDPOINT", "SLICE", "TAKEN", "WHY NOT")
        for endpoint in answer.endpoints {
            let isTaken = answer.candidates.contains(endpoint.address)
            let (slices, taken) = (endpoint.slices.joined(separator: ", "), isTaken ? "yes" : "no")
            let whyNot = endpoint.excluded ?? (isTaken ? "" : answer.verdict)
            if isInMesh {
                let passage = endpoint.passage
                endpoints.add(
                    endpoint.address, slices, taken, passage?.kind.rawValue ?? "-", passage?.serverIdentity ?? "-",
                    whyNot)
            } else {
                endpoints.add(endpoint.address, slices, taken, whyNot)
            }
        }
        return text + "\n" + endpoints.text
    }

    static func sentence(_ passage: FlowPassage) -> String {
        let reason = passage.reason
        switch passage.kind {
        case .plaintext: return "in the clear: \(reason)"
        case .none: return "by no tunnel, and so not at all: \(reason)"
        case .either: return "in a tunnel or in the clear: \(reason)"
        case .tunnel:
            let client = passage.clientIdentity.map { " from \($0)" } ?? ""
            let server = passage.serverIdentity.map { " to \($0)" } ?? ""
            return "in a tunnel\(client)\(server): \(reason)"
        }
    }

    static func text(_ routing: Routing) -> String {
        var text = "\(routing.outcome)\n\n"
        var candidates = Table("RULE", "MATCH", "MET")
        for candidate in routing.candidates {
            candidates.add(candidate.rule, candidate.match, candidate.mismatch ?? "yes")
        }
        text += candidates.text
        for filter in routing.filters { text += "filter: \(filter)\n" }
        guard !routing.backends.isEmpty else { return text }
        var backends = Table("BACKEND", "SHARE", "ENDPOINTS")
        for backend in routing.backends {
            // `500 (...)` stands for a backend that does not exist.
            let none = backend.target.hasPrefix("500 ") ? "-" : "none: 503"
            backends.add(
                backend.target, "\((backend.share * 10).rounded() / 10) %",
                backend.endpoints.isEmpty ? none : backend.endpoints.joined(separator: ", "))
        }
        return text + "\n" + backends.text
    }

    private static func summary(_ answer: Explanation) -> String {
        switch answer.verdict {
        case "balance":
            let count = answer.candidates.count
            return "\(answer.service ?? "?"), \(count == 1 ? "1 endpoint" : "one of \(count) endpoints"), "
                + "source address \(answer.source ?? "?"), generation \(answer.generation)"
        case "proxy" where answer.service == nil:
            return "\(answer.to), a pod of the mesh: the L7 proxy at \(answer.candidates.joined()) takes it there "
                + "through a tunnel"
        case "proxy":
            return "\(answer.service ?? "?"), routed: the L7 proxy at \(answer.candidates.joined()) chooses for each "
                + "request; add --method, --path and --header"
        case "reject": return "refused at once"
        case "drop": return "dropped"
        default: return "not ours, it goes where it wants to go"
        }
    }
}
