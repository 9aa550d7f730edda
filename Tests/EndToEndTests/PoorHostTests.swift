/// The agent on a host that grants it little: it must say so and do its work all the same.
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns)) struct PoorHostTests {
    /// An agent in namespaces of its own, in which `preparation` ran before it.
    private final class PoorAgent {
        let manifests: ManifestFolder
        private let directory: TemporaryDirectory
        private let process: ChildProcess

        init(_ unshare: [String], _ preparation: (_ directory: String) -> String) throws {
            manifests = try ManifestFolder()
            directory = try TemporaryDirectory()
            let path = directory.path
            for name in ["state", "run"] { #expect(mkdir("\(path)/\(name)", 0o755) == 0) }
            try manifests.write(TestService(name: "first", number: 1))
            let log = open(path + "/agent.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
            defer { close(log) }
            let script = preparation(path) + " && ip link set lo up && exec \"$@\""
            process = try ChildProcess(
                ["unshare"] + unshare + ["sh", "-c", script, "sh", programDirectory + "/heddle-agent", "run"]
                    + ["--node-name", "node-1", "--dataplane", "nftables", "--state-dir", path + "/state"]
                    + ["--api-socket", path + "/run/agent.sock", "--no-canary", "--proxy", "off"]
                    + ["--conntrack-max-per-core", "0", "--conntrack-min", "0"]
                    + ["--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0"]
                    + manifests.arguments, descriptors: [log, log, log])
        }
        deinit {
            process.signal(SIGTERM)
            _ = try? process.wait()
        }

        /// What `agentctl` says; empty as long as nobody answers.
        func ask(_ command: String) -> String {
            let socket = directory.path + "/run/agent.sock"
            return (try? run([programDirectory + "/agentctl", command, "--api-socket", socket])) ?? ""
        }
        func expectFollows() throws {
            try eventually("the first service") { ask("services").contains("first") }
            try manifests.write(TestService(name: "second", number: 2))
            try eventually("the second service") { ask("services").contains("second") }
        }
        var log: String { readText(directory.path + "/agent.log") }
    }

    @Test(
        "Without an inotify watch or instance the directory is read again and again",
        arguments: ["watches", "instances"])
    func readsWithoutWatching(limit: String) throws {
        let agent = try PoorAgent(["-U", "-r", "-n"]) { _ in "echo 0 > /proc/sys/user/max_inotify_\(limit)" }
        try agent.expectFollows()
        #expect(agent.ask("status").contains("raise fs.inotify.max_user_\(limit)"), "\(agent.log)")
    }

    @Test("A state directory that cannot be written is a warning")
    func worksWithoutState() throws {
        let agent = try PoorAgent(["-m", "-n"]) { "mount -t tmpfs -o ro none \($0)/state" }
        try agent.expectFollows()
        let warning = "state directory"
        #expect(agent.ask("status").split(separator: "\n").contains { $0.hasPrefix("warning") && $0.contains(warning) })
        #expect(agent.log.contains(warning))
    }
}
