/// `agentctl ca`: what the certificate authority has, has issued and has refused.
import AdminAPI
import ArgumentParser
import Glibc

struct AuthorityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ca", abstract: "The certificate authority: its root, what it issued and refused.",
        discussion: """
            Asks the controller, in whose pod this runs. Certificates and refusals are those of the replica that
            answers.

            Examples:
              agentctl ca                 root, newest certificates and refusals
              agentctl ca -o json
              agentctl ca renew root      change the root now, with overlap
            """,
        subcommands: [AuthorityStatus.self, AuthorityRenewal.self], defaultSubcommand: AuthorityStatus.self)
}

struct AuthorityStatus: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Its root, what it issued and refused; what ca alone shows.",
        discussion: """
            Examples:
              agentctl ca status
              agentctl ca status -o wide   more of the newest certificates and refusals
            """)

    @Flag(help: "As other commands have it; the authority is always the cluster's.")
    var cluster = false
    @OptionGroup var options: SharedOptions

    func run() throws {
        let report = try options.controller.get(AuthorityReport.self, AdminPath.authority)
        guard options.output != .json else { return try Output.json(report) }
        Output.tell(authorityText(report, now: time(nil), wide: options.output == .wide))
    }
}

struct AuthorityRenewal: ParsableCommand {
    enum Part: String, ExpressibleByArgument, CaseIterable {
        case root, intermediate
    }
    static let configuration = CommandConfiguration(
        commandName: "renew", abstract: "Begins to change the root or the intermediate now.",
        discussion: """
            A new root is published first, signs once everybody had time to read of it, and the old one is believed
            until the last certificate under it has ended. No workload is cut off.

            Examples:
              agentctl ca renew intermediate
              agentctl ca renew root
            """)

    @Argument(help: "root or intermediate.")
    var part: Part
    @Flag(help: "As other commands have it; the authority is always the cluster's.")
    var cluster = false
    @OptionGroup var options: SharedOptions

    func run() throws {
        _ = try options.controller.get(AdminPath.authority, [("renew", part.rawValue)])
        Output.tell("the \(part.rawValue) is being renewed; agentctl ca shows how far it is\n")
    }
}

func authorityText(_ report: AuthorityReport, now: Int, wide: Bool) -> String {
    var text = ""
    let line = { (name: String, value: String) in text += factLine(name, value) }
    let keys = report.keys
    line("authority", "trust domain \(report.trustDomain), " + (keys.origin == "own" ? "own root" : keys.origin))
    line("state", stateText(report))
    if let root = keys.root { line("root", certificateText(root, now: now, wide: wide)) }
    if let next = keys.nextRoot { line("  next", certificateText(next, now: now, wide: wide)) }
    for retired in keys.retired { line("  retired", certificateText(retired, now: now, wide: wide)) }
    if let intermediate = keys.intermediate {
        line("intermediate", certificateText(intermediate, now: now, wide: wide))
    }
    line("pods", "\(report.pods)" + (report.podsAreListed ? "" : ", NOT all: the first list is not complete"))
    line("issued", "\(report.issuedCount) by this replica, \(report.identity), since it began")
    let reasons = report.refusedCounts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    let counts = reasons.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    line("refused", "\(reasons.reduce(0) { $0 + $1.value })" + (counts.isEmpty ? "" : ": \(counts)"))
    for problem in report.allProblems { line("problem", problem) }
    let shown = wide ? AuthorityReport.shown : 5
    if !report.issued.isEmpty {
        var table = Table("ISSUED", "IDENTITY", "TO", "NODE", "ENDS", "SERIAL")
        for entry in report.issued.prefix(shown) {
            table.add(
                "\(span(now - entry.at)) ago", entry.identity, entry.requester, entry.node,
                endText(entry.notAfter, now: now), entry.serial)
        }
        text += "\n" + table.text
    }
    if !report.refused.isEmpty {
        var table = Table("REFUSED", "PEER", "REASON", "WHY")
        for entry in report.refused.prefix(shown) {
            table.add("\(span(now - entry.at)) ago", entry.peer, entry.reason, entry.sentence)
        }
        text += "\n" + table.text
    }
    return text
}

private func stateText(_ report: AuthorityReport) -> String {
    if report.isReady { return "ready" }
    return "NOT ready: " + (report.keys.isReady ? "the pods of the cluster are not listed yet" : "it has no key yet")
}

private func certificateText(_ certificate: AuthorityReport.Certificate, now: Int, wide: Bool) -> String {
    let print = certificate.fingerprint
    return "\(certificate.subject), ends \(endText(certificate.notAfter, now: now)), sha256 "
        + (wide ? print + ", serial \(certificate.serial)" : String(print.prefix(16)) + "…")
}

/// `in 3649d`
func endText(_ notAfter: Int, now: Int) -> String {
    notAfter > now ? "in \(span(notAfter - now))" : "\(span(now - notAfter)) ago"
}

/// An age of which no more is known than whole seconds.
private func span(_ seconds: Int) -> String { seconds < 10 ? "\(max(0, seconds))s" : age(Double(seconds)) }
