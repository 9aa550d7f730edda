/// `agentctl logs`: the access log of the L7 proxy, wherever it is written to.
import AdminAPI
import ArgumentParser
import FoundationEssentials
import Glibc

struct Logs: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The last requests that went through the L7 proxy.",
        discussion: """
            The lines are those of heddle-proxy's access log, in its format; the proxy keeps the last 256 KiB.

            Examples:
              agentctl logs                          the last 20
              agentctl logs -f --contains ' 503 '    failures as they happen
              agentctl logs --contains shop/canary   what one route did
            """)

    @Option(name: [.customShort("n"), .long], help: "How many of the last lines.")
    var lines = 20
    @Flag(name: [.customShort("f"), .long], help: "Goes on with new ones.")
    var follow = false
    @Option(help: "Only lines with this text.")
    var contains: String?
    @OptionGroup var options: SharedOptions

    struct Answer: Decodable {
        var next: UInt64?
        var missed: UInt64?
        var text: String?
        var error: String?
    }

    func validate() throws {
        guard lines >= 0 else { throw ValidationError("--lines \(lines): it must be at least 0") }
    }

    func run() throws {
        var (offset, isFirst) = (UInt64(0), true)
        while true {
            let answer = try options.client.get(Answer.self, AdminPath.proxy, [("what", "logs:\(offset)")])
            if let error = answer.error { throw CommandFailure("the L7 proxy cannot say: \(error)") }
            if let missed = answer.missed, missed > 0 { Output.complain("note: \(missed) bytes were missed\n") }
            let chosen = selected(answer.text ?? "")
            Output.tell((isFirst ? chosen.suffix(lines) : chosen[...]).map { $0 + "\n" }.joined())
            guard follow else { return }
            (offset, isFirst) = (answer.next ?? 0, false)
            usleep(500_000)
        }
    }

    private func selected(_ text: String) -> [Substring] {
        let lines = text.split(separator: "\n")
        guard let contains else { return lines }
        return lines.filter { $0.contains(contains) }
    }
}
