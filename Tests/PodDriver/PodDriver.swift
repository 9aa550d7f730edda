/// What runs inside a pod of a test lab: `pod-driver --netns PATH --cgroup PATH serve` moves itself into the pod and
/// then executes one command a line from standard input; `... exec PROGRAM ARGUMENTS` becomes another program there.
///
/// Answers are lines, the last one `.`; a line `error TEXT` says that the command itself failed. End of input ends the
/// process, so none outlives its test.
import CLinux
import Glibc
import Netns

@main struct PodDriver {
    static func main() {
        do {
            var arguments = CommandLine.arguments.dropFirst()
            while let option = arguments.first, option.hasPrefix("--") {
                guard let value = arguments.dropFirst().first else { throw Failure("\(option) needs a value") }
                arguments = arguments.dropFirst(2)
                switch option {
                case "--cgroup": try joinCgroup(value)
                case "--netns": try joinNamespace(value)
                default: throw Failure("unknown option \(option)")
                }
            }
            switch arguments.popFirst() {
            case "serve": try serve()
            case "exec": try become(Array(arguments))
            default: throw Failure("usage: pod-driver [--cgroup PATH] [--netns PATH] serve | exec PROGRAM ...")
            }
        } catch {
            writeAll(2, Array("pod-driver: \(error)\n".utf8))
            exit(1)
        }
    }

    private static func joinCgroup(_ path: String) throws {
        let file = open(path + "/cgroup.procs", O_WRONLY | O_CLOEXEC)
        guard file >= 0, write(file, "0", 1) == 1 else { throw Failure.errno("join cgroup \(path)") }
        close(file)
    }

    private static func joinNamespace(_ path: String) throws {
        let namespace = try NetworkNamespace(path: path)
        guard clinux_enter_network(namespace.descriptor) == 0 else { throw Failure.errno("enter \(path)") }
    }

    private static func become(_ command: [String]) throws {
        guard let program = command.first else { throw Failure("exec needs a program") }
        var words = command.map { strdup($0) } + [nil]
        execvp(program, &words)
        throw Failure.errno("execute \(program)")
    }

    private static func serve() throws {
        let driver = try Driver()
        var pending: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(0, &chunk, chunk.count)
            guard count > 0 else { exit(0) }
            pending += chunk[..<count]
            while let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: pending[..<end], as: UTF8.self)
                pending.removeSubrange(...end)
                writeAll(1, driver.execute(line))
            }
        }
    }
}

struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
    static func errno(_ operation: String) -> Failure {
        Failure("cannot \(operation): \(String(cString: strerror(Glibc.errno)))")
    }
}

func writeAll(_ descriptor: Int32, _ bytes: [UInt8]) {
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { return }
        rest = rest.dropFirst(count)
    }
}
