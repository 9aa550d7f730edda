/// `agentctl bugreport`: everything a maintainer needs in one file, without secrets. It works as far as it can when the
/// agent is down: what could not be had says so in its own place.
import AdminAPI
import ArgumentParser
import Glibc
import Posix

struct BugReport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bugreport", abstract: "One tar.gz with what a maintainer needs to see, secrets removed.",
        discussion: """
            Answers of agent and proxy, entries of the kernel, processes, versions and settings of the node. Tokens, \
            keys, cookies and passwords are replaced by \(Redaction.mark). The archive is readable for you alone; look \
            into it before you send it: tar -xzOf FILE | less. From a container that has nowhere to write: \
            kubectl exec POD -- agentctl bugreport --file - > report.tar.gz

            Examples:
              agentctl bugreport
              agentctl bugreport --file /tmp/report.tar.gz
              agentctl bugreport --file - > report.tar.gz
            """)

    @Option(help: "Where to write it, - for standard output (default: heddle-bugreport-NODE-TIME.tar.gz here).")
    var file: String?
    @OptionGroup var options: SharedOptions

    /// The commands whose answers are taken, by file.
    private static let questions: [(file: String, arguments: [String])] = [
        ("status.txt", ["status"]), ("status.json", ["status", "-o", "json"]), ("services.txt", ["services"]),
        ("routes.txt", ["routes"]), ("proxy.txt", ["proxy", "status"]), ("proxy-config.json", ["proxy", "config"]),
        ("proxy-upstreams.json", ["proxy", "upstreams"]), ("proxy-stats.json", ["proxy", "stats"]),
        ("certificates.txt", ["certificates", "-o", "wide"]),
        ("access-log.txt", ["logs", "-n", "1000"]), ("verify.txt", ["verify"]), ("capacity.txt", ["capacity"]),
        ("dump-maps.txt", ["dump-maps", "--raw"]), ("dump-maps-diff.txt", ["dump-maps", "--diff"]),
        ("sockets-stale.txt", ["sockets", "--stale"]), ("mesh.json", ["mesh", "-o", "json"]),
        ("policy.json", ["policy", "-o", "json"]),
    ]
    /// Those of the controller, in whose pod this may run.
    private static let clusterQuestions: [(file: String, arguments: [String])] = [
        ("cluster-status.json", ["status", "--cluster", "-o", "json"]),
        ("cluster-routes.txt", ["routes", "--cluster"]),
        ("ca.txt", ["ca", "-o", "wide"]), ("ca.json", ["ca", "-o", "json"]),
    ]
    /// Of the node, by file.
    private static let paths = [
        "/proc/version", "/etc/os-release", "/proc/self/cgroup", "/proc/mounts", "/proc/meminfo", "/proc/loadavg",
        "/proc/net/sockstat", "/proc/net/route", "/proc/net/dev", "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv4/ip_local_port_range", "/proc/sys/net/ipv4/tcp_migrate_req",
        "/proc/sys/net/netfilter/nf_conntrack_max", "/proc/sys/net/netfilter/nf_conntrack_count",
        "/proc/sys/kernel/unprivileged_bpf_disabled",
    ]

    func run() throws {
        var now = time(nil)
        var parts = tm()
        gmtime_r(&now, &parts)
        var text = [CChar](repeating: 0, count: 32)
        strftime(&text, text.count, "%Y%m%dT%H%M%SZ", &parts)
        let moment = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var name = [CChar](repeating: 0, count: 256)
        gethostname(&name, name.count - 1)
        let host = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let path = file ?? "heddle-bugreport-\(host)-\(moment).tar.gz"
        let archive = try TarArchive(path: path, time: now)
        var removed = 0
        func add(_ file: String, _ content: String, to archive: borrowing TarArchive) throws(CommandFailure) {
            let (clean, count) = Redaction.clean(content)
            removed += count
            try archive.add("heddle-bugreport/\(file)", clean)
        }
        let isController = access(options.controller.socket, F_OK) == 0
        for question in Self.questions + (isController ? Self.clusterQuestions : []) {
            Output.complain("\(question.arguments.joined(separator: " ")) ...\n")
            let shared = ["--api-socket", options.apiSocket, "--bpffs", options.bpffs]
            try add(question.file, Self.output(of: question.arguments + shared), to: archive)
        }
        for path in Self.paths { try add("node" + path, readSmallFile(path) ?? "cannot be read\n", to: archive) }
        for process in processes() {
            try add("processes/\(process.name)-\(process.pid).txt", process.text, to: archive)
        }
        try add("about.txt", "agentctl on \(host) at \(moment)\n\(removed) secrets were removed\n", to: archive)
        try archive.finish()
        if !TarArchive.isStandardOutput(path) { Output.tell("\(path)\n") }
        if removed > 0 { Output.complain("note: \(removed) values that look like secrets were removed\n") }
    }

    /// What this program prints with other arguments, errors too, and how it ended: what one command does wrong, or
    /// waits for, is no harm to the others.
    private static func output(of arguments: [String]) -> String {
        let command = Command("/proc/self/exe", arguments, joinsErrors: true)
        let (output, end): ([UInt8], Command.End)
        do throws(PosixError) { (output, end) = try command.run(limit: 64 << 20, patience: .seconds(30)) } catch {
            return "cannot be run: \(error.reason)\n"
        }
        let how = if case .exited(let status) = end { "ended with status \(status)" } else { end.description }
        let text = String(decoding: output, as: UTF8.self)
        return "$ agentctl \(arguments.joined(separator: " "))\n\(text)\n[\(how)]\n"
    }

    /// What /proc says of agents and proxies.
    private func processes() -> [(pid: Int, name: String, text: String)] {
        var found: [(pid: Int, name: String, text: String)] = []
        for pid in directoryNames("/proc").compactMap({ Int($0) }).sorted() {
            let name = readSmallFile("/proc/\(pid)/comm")?.filter { $0 != "\n" } ?? ""
            // The kernel keeps fifteen characters of a name.
            guard ["heddle-agent", "heddle-proxy", "heddle-controll"].contains(name) else { continue }
            let command = (readSmallFile("/proc/\(pid)/cmdline") ?? "").replacing("\0", with: " ")
            var text = "command: \(command)\nopen files: \(directoryNames("/proc/\(pid)/fd").count)\n"
            for file in ["status", "limits", "cgroup", "io"] {
                text += "\n\(file):\n" + (readSmallFile("/proc/\(pid)/\(file)") ?? "cannot be read\n")
            }
            found.append((pid, name, text))
        }
        return found
    }
}
