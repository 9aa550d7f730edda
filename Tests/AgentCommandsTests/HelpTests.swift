// `--help` teaches: every command has examples, which are right, and fit a terminal.
import ArgumentParser
import Testing

@testable import AgentCommands

@Suite struct HelpTests {
    @Test(arguments: commands.map(\.name)) func examplesAreRight(_ name: String) throws {
        let command = try #require(Self.commands.first { $0.name == name })
        let lines = command.type.configuration.discussion.split(separator: "\n", omittingEmptySubsequences: false)
        let heading = try #require(lines.firstIndex(of: "Examples:"), "\(name) --help has no line \"Examples:\"")
        let examples = lines[(heading + 1)...].prefix { $0.hasPrefix("  ") }
        #expect(!examples.isEmpty)
        for example in examples {
            // The parser breaks longer lines.
            #expect(example.count <= 80, "\(example)")
            let words = words(of: example)
            #expect(words.starts(with: name.split(separator: " ").map(String.init)), "\(example)")
            #expect(throws: Never.self, "\(example)") { _ = try Agentctl.parseAsRoot(Array(words.dropFirst())) }
        }
    }

    @Test(arguments: [CompletionShell.bash, .zsh, .fish]) func completionKnowsAllCommands(_ shell: CompletionShell) {
        let script = Agentctl.completionScript(for: shell)
        for command in Self.commands {
            let word = command.name.split(separator: " ").last ?? ""
            #expect(script.contains(word), "\(command.name)")
        }
    }

    private static let commands = all(Agentctl.self, "agentctl")

    private static func all(
        _ type: any ParsableCommand.Type, _ name: String
    ) -> [(name: String, type: any ParsableCommand.Type)] {
        [(name, type)] + type.configuration.subcommands.flatMap { all($0, "\(name) \($0._commandName)") }
    }

    /// As a shell takes it apart, up to the comment, pipe or file behind it.
    private func words(of line: Substring) -> [String] {
        let command = line.drop { $0 == " " }
        let end = ["  ", " |", " >"].compactMap { command.firstRange(of: $0)?.lowerBound }.min() ?? command.endIndex
        return command[..<end].split(separator: "'", omittingEmptySubsequences: false).enumerated().flatMap {
            index, part in
            index % 2 == 1 ? [String(part)] : part.split(separator: " ").map(String.init)
        }
    }
}
