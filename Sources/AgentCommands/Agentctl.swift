/// The command line of `agentctl`: its subcommands, the options they share, and exit statuses.
import AdminAPI
import ArgumentParser
import Glibc

struct Agentctl: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "agentctl",
        abstract: "Looks at and after the Heddle agent of this node.",
        discussion: """
            dump-maps and cleanup read and write the kernel directly, analyze reads files; all
            others ask the agent, and with --cluster the controller.

            Examples:
              agentctl status                         is this node in sync?
              agentctl dump-maps --service shop/web   what the kernel does for it
              agentctl explain --from shop/web-0 --to 10.96.0.10:80
            """,
        version: "agentctl \(heddleVersion)",
        subcommands: [
            DumpMaps.self, Status.self, Services.self, Endpoints.self, Routes.self, Mesh.self, Policy.self,
            ProxyCommand.self,
            Logs.self,
            Observe.self, Top.self, Sockets.self, Explain.self, Verify.self, Capacity.self, BugReport.self,
            Analyze.self, AuthorityCommand.self, Certificates.self, Request.self, Completion.self, Cleanup.self,
        ])
}

enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case table, wide, json
}

/// What every subcommand takes.
struct SharedOptions: ParsableArguments {
    @Option(name: [.short, .long], help: "table, wide or json.")
    var output = OutputFormat.table

    @Option(help: "Admin socket of the agent.")
    var apiSocket = AdminPath.defaultSocket

    @Option(help: "Where the agent's maps and links are pinned.")
    var bpffs = "/sys/fs/bpf/heddle"

    var client: AdminClient { AdminClient(socket: apiSocket) }
    /// `--api-socket` is the controller's where it is given.
    var controller: AdminClient {
        AdminClient(
            socket: apiSocket == AdminPath.defaultSocket ? AdminPath.controllerSocket : apiSocket, program: .controller)
    }
}

/// A failure whose sentence is all there is to say.
struct CommandFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

package enum AgentctlProgram {
    /// 0: success; 1: failure; 2: wrong usage.
    package static func main(arguments: [String]) -> Never {
        // `agentctl status | head` must end quietly.
        signal(SIGPIPE, SIG_DFL)
        exit(run(arguments))
    }

    static func run(_ arguments: [String]) -> Int32 {
        do {
            var command = try Agentctl.parseAsRoot(arguments)
            try command.run()
            return 0
        } catch let status as ExitCode {
            return status.rawValue
        } catch let failure as CommandFailure {
            Output.complain("agentctl: \(failure)\n")
            return 1
        } catch {
            // What is left comes from the parser: a question for help, or wrong usage.
            let text = Agentctl.fullMessage(for: error) + "\n"
            guard Agentctl.exitCode(for: error) == .success else {
                Output.complain(text)
                return 2
            }
            Output.tell(text)
            return 0
        }
    }
}
