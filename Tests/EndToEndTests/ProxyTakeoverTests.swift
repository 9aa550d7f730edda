/// A new proxy takes the place of the old one under load: no connection is refused, none is cut.
import Addressing
import Glibc
import Netns
import Posix
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct ProxyTakeoverTests {
    @Test(arguments: DataplaneKind.allCases) func nothingIsLost(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let (client, server) = (try node.addPod("client"), try node.addPod("server"))
            let backend = try server.namespace().run {
                try TestBackend("web", at: SocketAddress(server.v4, TestService.targetPort)) { request in
                    request.header("upgrade") == nil
                        ? .reply(200, body: "ok")
                        : .tunnel("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
                }
            }
            defer { backend.stop() }
            let web = TestService(name: "web", number: 10, pods: [server])
            let manifests = try ManifestFolder()
            try manifests.write(web)
            try manifests.writeRoute(of: "web", to: "web")
            let agent = try RunningAgent(on: node, dataplane, manifests)
            chmod(agent.directory.path, 0o711)
            let url = "http://\(web.v4)/"
            try eventually("the proxy answers") {
                try client.run(["curl", "-s", "--max-time", "5", url]) == "ok" && agent.proxies().count == 1
            }
            let migrates = try node.host.run(["cat", "/proc/sys/net/ipv4/tcp_migrate_req"])
            #expect(migrates == "1\n")
            let old = try #require(try agent.proxies().first)
            let folder = try TemporaryDirectory()
            let tunnel = try client.spawn(
                ["bash", "-c", tunnelScript, "-", "\(web.v4.address)", "\(folder.path)/stop"],
                log: folder.path + "/tunnel")
            let storm = try client.spawn(
                ["bash", "-c", stormScript, "-", url, "\(folder.path)/stop"], log: folder.path + "/storm")
            try eventually("load") { lines("\(folder.path)/storm").count > 2 }

            let log = folder.path + "/proxy"
            // As the same user, or they could not share the port.
            let new = try node.host.spawn(
                asProxyUser + [
                    programDirectory + "/heddle-proxy", "--config-socket", agent.proxySocket, "--metrics-address",
                    "127.0.0.1:15021", "--access-log", "off",
                ], log: log)
            defer { new.signal(SIGKILL) }
            try eventually("the new proxy serves") { try agent.allServe(2) }
            kill(old, SIGTERM)
            let before = lines("\(folder.path)/storm").count
            try eventually("load on the new one alone") { lines("\(folder.path)/storm").count > before + 5 }
            // The tunnel lives on in the old one.
            #expect(kill(old, 0) == 0)
            let turns = lines("\(folder.path)/tunnel").count
            try eventually("the tunnel goes on") { lines("\(folder.path)/tunnel").count > turns + 5 }
            try writeText("", to: "\(folder.path)/stop")
            #expect(try tunnel.wait() == 0)
            #expect(try storm.wait() == 0)
            let failures = lines("\(folder.path)/storm").filter { $0 != "ok" }
            #expect(failures.isEmpty, "\(failures)")
            #expect(!lines("\(folder.path)/tunnel").contains { $0.hasPrefix("lost") })
            try eventually("the old one ends when its last connection has") { kill(old, 0) != 0 }
            #expect(try client.run(["curl", "-s", "--max-time", "5", url]) == "ok")
        }
    }

    /// Beside an older proxy on the same port it would be given connections of which it knows nothing.
    @Test func whoHasNoConfigurationTakesNoConnection() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let folder = try TemporaryDirectory()
            let log = folder.path + "/proxy"
            let proxy = try node.host.spawn(
                [
                    programDirectory + "/heddle-proxy", "--config-socket", folder.path + "/nobody", "--metrics-address",
                    "127.0.0.1:15021",
                ], log: log)
            defer { proxy.signal(SIGKILL) }
            try eventually("it looks for an agent") {
                readText(log).contains("metrics on") && readText(log).contains("no agent")
            }
            let connects = "(: <> /dev/tcp/127.0.0.1/15001) 2> /dev/null && echo taken || echo refused"
            #expect(try node.host.run(["bash", "-c", connects]) == "refused\n")
            proxy.signal(SIGTERM)
            #expect(try proxy.wait() == 0)
        }
    }

    /// After an upgrade: the agent finds proxies that do not run the installed program, one of them of a release with
    /// another format of the hand-over. It starts the installed one, and ends them once that one serves.
    @Test(arguments: DataplaneKind.allCases) func theInstalledProxyReplacesOlderOnes(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let (client, server) = (try node.addPod("client"), try node.addPod("server"))
            let backend = try server.serveHTTP("ok")
            defer { backend.stop() }
            let web = TestService(name: "web", number: 10, pods: [server])
            let manifests = try ManifestFolder()
            try manifests.write(web)
            let agent = try RunningAgent(on: node, dataplane, manifests)
            let folder = try TemporaryDirectory()
            try run(["cp", programDirectory + "/heddle-proxy", folder.path + "/heddle-proxy"])
            let old = try node.host.spawn(
                [
                    folder.path + "/heddle-proxy", "--config-socket", agent.proxySocket, "--metrics-address",
                    "127.0.0.1:15021", "--access-log", "off",
                ], log: folder.path + "/old")
            let foreign = try node.host.spawn(
                ["python3", "-c", formatOneScript, agent.proxySocket], log: folder.path + "/foreign")
            try eventually("both are known") { try agent.proxies().count == 2 }
            // Nothing is routed: nobody is started, nobody ends.
            #expect(old.isRunning && foreign.isRunning)

            try manifests.writeRoute(of: "web", to: "web")
            let url = "http://\(web.v4)/"
            try eventually("the installed one serves alone") {
                try agent.proxies().count == 1 && client.run(["curl", "-s", "--max-time", "5", url]) == "ok"
            }
            #expect(try old.wait() == 0)
            #expect(try foreign.wait() == 128 + SIGTERM)
            let installed = try #require(try agent.proxies().first)
            #expect(installed != old.pid && installed != foreign.pid)
            #expect(
                FileIdentity(path: "/proc/\(installed)/exe") == FileIdentity(path: programDirectory + "/heddle-proxy"))
            // A newer agent that finds the same program leaves it alone.
            try agent.killAbruptly()
            try agent.start()
            try agent.waitUntilInSync()
            try eventually("it is back") { try agent.proxies() == [installed] }
        }
    }

    /// Says hello as a proxy of the release before fields had numbers, and waits.
    private let formatOneScript = """
        import socket, sys
        s = socket.socket(socket.AF_UNIX)
        s.connect(sys.argv[1])
        s.sendall(bytes.fromhex("48444c370100000005000000bcc8e11995cb62a00101310709"))
        while s.recv(4096): pass
        """

    /// More connections than it has descriptors for: when there is room again, new ones are served again.
    @Test func runningOutOfDescriptorsPasses() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let (client, server) = (try node.addPod("client"), try node.addPod("server"))
            let backend = try server.serveHTTP("ok")
            defer { backend.stop() }
            let web = TestService(name: "web", number: 10, pods: [server])
            let manifests = try ManifestFolder()
            try manifests.write(web)
            try manifests.writeRoute(of: "web", to: "web")
            let agent = try RunningAgent(on: node, .nftables, manifests)
            let ask = { try client.run(["curl", "-s", "--max-time", "5", "http://\(web.v4)/"]) }
            try eventually("the proxy answers") { try ask() == "ok" && agent.proxies().count == 1 }
            let pid = try #require(try agent.proxies().first)
            _ = try node.host.run(asProxyUser + ["prlimit", "--pid", "\(pid)", "--nofile=64:64"])
            let folder = try TemporaryDirectory()
            let crowd = try client.spawn(
                ["bash", "-c", crowdScript, "-", "\(web.v4.address)", "\(folder.path)/stop"],
                log: folder.path + "/crowd")
            try eventually("the crowd is there") { readText(folder.path + "/crowd").contains("open") }
            #expect((try? ask()) != "ok", "the limit was not reached")
            try writeText("", to: "\(folder.path)/stop")
            #expect(try crowd.wait() == 0)
            try eventually("it answers again") { (try? ask()) == "ok" }
            #expect(try agent.proxies() == [pid])
        }
    }

    private let asProxyUser = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]

    /// A hundred connections that ask nothing.
    private let crowdScript = """
        for i in $(seq 100); do exec {fd}<>/dev/tcp/$1/80; done
        echo open
        while [ ! -e "$2" ]; do read -r -t 0.05 line <&$fd; done
        exit 0
        """

    /// Fifty new connections at a time, again and again.
    private let stormScript = """
        urls=$(for i in $(seq 50); do echo -n "$1?$i "; done)
        while [ ! -e "$2" ]; do
          curl -sS --no-progress-meter --max-time 10 -H 'Connection: close' --parallel --parallel-immediate \
            --parallel-max 50 --fail $urls 2>&1 >/dev/null && echo ok || echo failed
        done
        """
    /// One upgraded connection that is asked and answered, again and again.
    private let tunnelScript = """
        exec 3<>/dev/tcp/$1/80
        printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n' >&3
        while read -r -t 10 line <&3 && [ "$line" != $'\\r' ]; do :; done
        while [ ! -e "$2" ]; do
          echo turn >&3
          read -r -t 10 line <&3 && echo "$line" || { echo lost; exit 1; }
          read -r -t 0.02 line <&3
        done
        exit 0
        """

    private func lines(_ path: String) -> [Substring] { readText(path).split(separator: "\n") }
}
