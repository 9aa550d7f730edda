/// `verify` and `capacity`: the agent compares and counts, entry by entry.
import AdminAPI
import ArgumentParser
import Observation

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compares what the kernel should hold with what it holds; status 1 if they differ.",
        discussion: """
            Examples:
              agentctl verify
              agentctl verify --repair
            """)

    @Flag(help: "Write everything that differs again.")
    var repair = false
    @OptionGroup var options: SharedOptions

    func run() throws {
        let report = try options.client.get(
            VerifyReport.self, AdminPath.verify, repair ? [(name: "repair", value: "true")] : [])
        if options.output == .json {
            try Output.json(report)
        } else if report.differences.isEmpty {
            Output.tell("no difference\n")
        } else {
            Output.tell(differenceTable(report.differences))
            if report.repaired { Output.tell("repaired\n") }
        }
        if !report.differences.isEmpty, !report.repaired { throw ExitCode(1) }
    }
}

func differenceTable(_ differences: [VerifyReport.Difference]) -> String {
    var table = Table("OBJECT", "DIFFERENCE")
    for difference in differences { table.add(difference.object, difference.detail) }
    return table.text
}

struct Capacity: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "How full each kernel map is.",
        discussion: """
            Examples:
              agentctl capacity
              agentctl capacity -o wide   also maps that cannot fill up
            """)
    @OptionGroup var options: SharedOptions

    func run() throws {
        let report = try options.client.get(CapacityReport.self, AdminPath.capacity)
        guard options.output != .json else { return try Output.json(report) }
        Output.tell(mapTable(report.maps, all: options.output == .wide))
    }
}

/// Maps that can fill up or hold something; `all`: every map.
func mapTable(_ maps: [MapUsage], all: Bool) -> String {
    var table = Table("MAP", "TYPE", "ENTRIES", "MAXIMUM", "USED", "MEMORY")
    for map in maps where all || map.entries > 0 || map.maxEntries > 0 {
        let hasLimit = map.maxEntries > 0
        table.add(
            map.name, map.type, "\(map.entries)", hasLimit ? "\(map.maxEntries)" : "-",
            hasLimit ? "\(map.entries * 100 / map.maxEntries)%" : "-", byteCount(map.bytes))
    }
    return table.text
}
