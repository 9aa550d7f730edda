/// An upgrade and the way back with the programs of another release, which `HEDDLE_OLDER_BIN_DIR` names: each agent
/// finds the other's proxy serving.
import Addressing
import Glibc
import Netns
import TestSupport
import Testing

private let olderPrograms = getenv("HEDDLE_OLDER_BIN_DIR").map { String(cString: $0) }

@Suite(
    .requiresKernel(.root, .netns, .cgroup2, .bpf),
    .enabled(if: olderPrograms != nil, "HEDDLE_OLDER_BIN_DIR names no directory with the programs of a release"))
struct ReleaseUpgradeTests {
    @Test(arguments: DataplaneKind.allCases) func noRequestIsLostOrRoutedWrongly(dataplane: DataplaneKind) throws {
        let older = try #require(olderPrograms)
        try Lab.with { lab in
            let node = try lab.addNode()
            let (client, plain, routed) = (
                try node.addPod("client"), try node.addPod("plain"), try node.addPod("routed")
            )
            let backends = try [plain, routed].map { try $0.serveHTTP($0.name + "\n") }
            defer { for backend in backends { backend.stop() } }
            let web = TestService(name: "web", number: 10, pods: [plain])
            let manifests = try ManifestFolder()
            try manifests.write(web)
            try manifests.write(TestService(name: "routed", number: 11, pods: [routed]))
            // Only who has the routes comes there.
            try manifests.writeRoute(of: "web", to: "routed")
            let agent = try RunningAgent(on: node, dataplane, manifests, programs: older)
            chmod(agent.directory.path, 0o711)
            let url = "http://\(web.v4)/"
            try eventually("the older release serves") {
                try client.run(["curl", "-s", "--max-time", "5", url]) == "routed\n" && agent.proxies().count == 1
            }
            let folder = try TemporaryDirectory()
            let log = folder.path + "/storm"
            let storm = try client.spawn(["bash", "-c", stormScript, "-", url, "\(folder.path)/stop"], log: log)
            let old = try #require(try agent.proxies().first)
            let user = owner(old)
            try agent.replace(with: programDirectory)
            try eventually("the installed proxy serves alone") {
                let proxies = try agent.proxies()
                return proxies.count == 1 && proxies != [old]
            }
            // One of another user must have given the port up before (docs/l7.md).
            let sharesPort = try owner(#require(try agent.proxies().first)) == user
            let upgraded = lines(log).count
            try eventually("load on it") { lines(log).count > upgraded + 3 }
            let serving = lines(log).count
            // A release that cannot speak to the newer proxy leaves it the routes it has. It may refuse, when eBPF maps
            // of another layout take over, but never routes otherwise.
            try agent.replace(with: older)
            let returned = lines(log).count
            try eventually("load on it still") { lines(log).count > returned + 20 }
            try writeText("", to: "\(folder.path)/stop")
            #expect(try storm.wait() == 0)
            let strange = lines(log).prefix(serving).filter { $0 != "50 routed" }
            #expect(strange.isEmpty || !sharesPort, "of \(serving) rounds: \(strange)")
            #expect(!readText(log).contains("plain"))
            #expect(lines(log).last == "50 routed")
        }
    }

    private func owner(_ pid: pid_t) -> uid_t? {
        var status = stat()
        return stat("/proc/\(pid)", &status) == 0 ? status.st_uid : nil
    }
    private func lines(_ path: String) -> [Substring] { readText(path).split(separator: "\n") }

    /// Fifty new connections at a time, again and again; a line for all answers of a kind.
    private let stormScript = """
        urls=$(for i in $(seq 50); do echo -n "$1?$i "; done)
        while [ ! -e "$2" ]; do
          curl -sS --no-progress-meter --max-time 10 -H 'Connection: close' --parallel --parallel-immediate \\
            --parallel-max 50 --fail $urls 2>&1 | sort | uniq -c | sed 's/^ *//'
        done
        """
}
