/// The program `heddle-agent`: arguments in, exit status out.
import Addressing
import AdminAPI
import AdminServer
import Daemon
import Glibc
import LinuxDataplane
import Logging
import Options
import Posix

package enum AgentProgram {
    package static let version = heddleVersion

    /// 0: ended as asked; 1: something is missing; 2: wrong usage.
    package static func main(arguments: [String]) async -> Never {
        prepareProcess()
        exit(await run(arguments))
    }

    private static func run(_ arguments: [String]) async -> Int32 {
        let command = arguments.first
        let rest = Array(arguments.dropFirst())
        if rest.contains("--help") || rest.contains("-h") { return help() }
        do throws(ConfigurationError) {
            switch command {
            case "run":
                let configuration = try configuration(rest, needsSource: true)
                let reread: @Sendable () throws(ConfigurationError) -> AgentConfiguration = {
                    () throws(ConfigurationError) in try Self.configuration(rest, needsSource: true)
                }
                return await runAgent(configuration, reread: reread)
            case "preflight": return preflight(try configuration(rest, needsSource: false))
            case "version", "--version": return tell("heddle-agent \(version)\n")
            case "help", "--help", "-h": return help()
            case let other?: throw ConfigurationError("unknown command \"\(other)\"; see heddle-agent --help")
            case nil: throw ConfigurationError("which command? see heddle-agent --help")
            }
        } catch {
            return complain("\(error)", status: 2)
        }
    }

    /// The variables that the configuration looks at.
    static var environment: [String: String] {
        ProcessSetup.environment(
            AgentConfiguration.options.variables + ["NODE_NAME", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"])
    }

    private static func configuration(
        _ arguments: [String], needsSource: Bool
    ) throws(ConfigurationError) -> AgentConfiguration {
        let host = AgentConfiguration.Host(
            hostName: ProcessSetup.hostName, environment: environment, readFile: readConfigurationFile)
        return try AgentConfiguration.parse(arguments: arguments, host: host, needsSource: needsSource)
    }

    private static func runAgent(
        _ configuration: AgentConfiguration,
        reread: @escaping @Sendable () throws(ConfigurationError) -> AgentConfiguration
    ) async -> Int32 {
        do {
            try await AgentProcess(configuration, reread: reread).run()
            return 0
        } catch {
            return complain("\(error)", status: 1)
        }
    }

    private static func preflight(_ configuration: AgentConfiguration) -> Int32 {
        let offers = DataplaneFactory.probe(configuration)
        var text = ""
        for (title, probes) in [("ebpf", offers.ebpf), ("nftables", offers.nftables)] {
            for probe in probes {
                text += "\(probe.ok ? "ok     " : "MISSING") \(title): \(probe.name): \(probe.detail)\n"
            }
        }
        var asked = configuration
        asked.dataplane = .auto
        do throws(StartupError) {
            let selection = try DataplaneSelection.choose(asked, offers)
            return tell(text + "auto takes \(selection.kind.rawValue) (\(selection.reason))\n")
        } catch {
            // With eBPF alone the node could still run: say so by the status, and what it needs by the sentence.
            let usable = offers.missingForEBPF == nil || offers.missingForNftables == nil
            return tell(text + "auto takes nothing: \(error)\n", status: usable ? 0 : 1)
        }
    }

    private static func help() -> Int32 { tell(AgentConfiguration.usage) }

    private static func tell(_ text: String, status: Int32 = 0) -> Int32 {
        _ = writeAll(Array(text.utf8), to: STDOUT_FILENO)
        return status
    }
    private static func complain(_ sentence: String, status: Int32) -> Int32 {
        _ = writeAll(Array("heddle-agent: \(sentence)\n".utf8), to: STDERR_FILENO)
        return status
    }
}
