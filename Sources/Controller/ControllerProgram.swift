/// The program `heddle-controller`: arguments in, exit status out.
import AdminAPI
import Daemon
import Glibc
import Options
import Posix

package enum ControllerProgram {
    package static let version = heddleVersion

    /// 0: ended as asked; 1: something is missing; 2: wrong usage.
    package static func main(arguments: [String]) async -> Never {
        prepareProcess()
        hideMemory()
        exit(await run(arguments))
    }

    private static func run(_ arguments: [String]) async -> Int32 {
        let rest = Array(arguments.dropFirst())
        if rest.contains("--help") || rest.contains("-h") {
            return tell(
                arguments.first == "request-certificate" ? CertificateClient.usage : ControllerConfiguration.usage)
        }
        do {
            switch arguments.first {
            case "run":
                try await ControllerProcess(try configuration(rest)).run()
                return 0
            case "request-certificate":
                return tell(try await CertificateClient.options.settings(arguments: rest).run())
            case "version", "--version": return tell("heddle-controller \(version)\n")
            case "help", "--help", "-h": return tell(ControllerConfiguration.usage)
            case let other?: throw OptionError("unknown command \"\(other)\"; see heddle-controller --help")
            case nil: throw OptionError("which command? see heddle-controller --help")
            }
        } catch {
            _ = writeAll(Array("heddle-controller: \(error)\n".utf8), to: STDERR_FILENO)
            return error is OptionError ? 2 : 1
        }
    }

    static var environment: [String: String] {
        ProcessSetup.environment(ControllerConfiguration.options.variables + ControllerConfiguration.variables)
    }

    private static func configuration(_ arguments: [String]) throws(OptionError) -> ControllerConfiguration {
        try ControllerConfiguration.parse(
            arguments: arguments, hostName: ProcessSetup.hostName, environment: environment,
            readFile: readConfigurationFile)
    }

    private static func tell(_ text: String) -> Int32 {
        _ = writeAll(Array(text.utf8), to: STDOUT_FILENO)
        return 0
    }
}
