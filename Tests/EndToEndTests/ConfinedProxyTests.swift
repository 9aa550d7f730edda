/// The spawned proxy reads what pods send, so it must have nothing worth taking: the kernel is asked what it may do.
import Addressing
import Glibc
import Netns
import Posix
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct ConfinedProxyTests {
    private let user: uid_t = 65534

    @Test(arguments: DataplaneKind.allCases) func itServesAndMayNothingElse(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let (client, server) = (try node.addPod("client"), try node.addPod("server"))
            let backend = try server.serveHTTP("ok")
            defer { backend.stop() }
            let web = TestService(name: "web", number: 10, pods: [server])
            let manifests = try ManifestFolder()
            try manifests.write(web)
            let agent = try RunningAgent(on: node, dataplane, manifests, options: ["--proxy-user", "\(user)"])
            // As an earlier release, whose proxy was root, left it.
            try writeText("root's", to: agent.directory.path + "/state/proxy-config")
            try manifests.writeRoute(of: "web", to: "web")
            let ask = { try client.run(["curl", "-s", "--max-time", "5", "http://\(web.v4)/"]) }
            try eventually("the proxy answers") { try ask() == "ok" && agent.proxies().count == 1 }
            let first = try #require(try agent.proxies().first)
            try expectConfined(first, agent)

            // A second one finds files of another user in the way, as after a change of --proxy-user.
            let own = agent.directory.path + "/state/proxy"
            try run(["chown", "0:0", own, own + "/config"])
            kill(first, SIGKILL)
            try eventually("another one serves") {
                try ask() == "ok" && agent.proxies().first.map { $0 != first } == true
            }
            try eventually("its configuration on disk") {
                owner(own + "/config") == user
            }

            // It outlives the agent, and finds the next one.
            let second = try #require(try agent.proxies().first)
            try agent.killAbruptly()
            #expect(try ask() == "ok")
            try agent.start()
            try agent.waitUntilInSync()
            try eventually("it is back") { try agent.proxies() == [second] }
        }
    }

    private func expectConfined(_ pid: pid_t, _ agent: RunningAgent) throws {
        let status = readText("/proc/\(pid)/status")
        for line in [
            "Uid:\t\(user)\t\(user)\t\(user)\t\(user)", "Gid:\t\(user)\t\(user)\t\(user)\t\(user)", "Groups:\t ",
            "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
        ] { #expect(status.split(separator: "\n").contains { $0 == line }, "no `\(line)` in\n\(status)") }
        let told = try agent.agentctl("proxy")
        #expect(told.contains("uid \(user), no capabilities, no_new_privs, seccomp"), "\(told)")
        let open = directoryEntries("/proc/\(pid)/fd").compactMap { readLink("/proc/\(pid)/fd/\($0)") }
        #expect(!open.contains { $0.contains("bpf") || $0.contains("/state") }, "\(open)")

        // What its user can reach, were the directory above open to all.
        let folder = agent.directory.path
        chmod(folder, 0o755)
        defer { chmod(folder, 0o700) }
        #expect(owner(folder + "/state/proxy") == user && owner(folder + "/state/proxy-config") == nil)
        #expect(try asUser("ls \(folder)/state").contains("Permission denied"))
        #expect(try asUser("cat \(folder)/state/lock").contains("Permission denied"))
        let connect =
            "python3 -c 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(1)\n"
        #expect(try asUser(connect + "print(1)' \(folder)/agent.sock").contains("Permission denied"))
        // Its own socket answers nobody else, not even of its group.
        let wait = "try: print(len(s.recv(1)))\nexcept TimeoutError: print(\"stays\")' \(folder)/proxy.sock"
        let (own, other) = (try asUser(connect + wait), try asUser(connect + wait, user: user - 1))
        #expect(own == "stays\n" && other == "0\n", "\(own), \(other)")
    }

    /// By a shell without a file of its own to read, which bash takes a socket as its input for a reason to do.
    private func asUser(_ script: String, user: uid_t? = nil) throws -> String {
        try run([
            "setpriv", "--reuid", "\(user ?? self.user)", "--regid", "\(self.user)", "--clear-groups", "sh", "-c",
            script + " 2>&1 || true",
        ])
    }
    private func owner(_ path: String) -> uid_t? {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_uid : nil
    }
    private func readLink(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink(path, &buffer, buffer.count)
        return count < 0 ? nil : String(decoding: buffer.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
