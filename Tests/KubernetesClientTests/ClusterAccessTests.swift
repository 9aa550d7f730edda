/// Kubeconfigs, pods' own files, and credential plugins.
import Glibc
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct ClusterAccessTests {
    private let config = """
        apiVersion: v1
        kind: Config
        current-context: here
        contexts:
        - {name: here, context: {cluster: one, user: me}}
        - {name: there, context: {cluster: two, user: robot}}
        - {name: plain, context: {cluster: plain}}
        - {name: broken, context: {cluster: missing, user: me}}
        clusters:
        - name: one
          cluster:
            server: https://10.0.0.1:6443
            certificate-authority-data: aGVsbG8=
            tls-server-name: kubernetes
            proxy-url: http://u:p@proxy:3128
        - name: two
          cluster: {server: "https://[fd00::1]", certificate-authority: pki/ca.crt, insecure-skip-tls-verify: true}
        - name: plain
          cluster: {server: "http://127.0.0.1:6443/"}
        users:
        - name: me
          user: {client-certificate-data: YQ==, client-key: /etc/key.pem, token: secret}
        - name: robot
          user:
            exec:
              apiVersion: client.authentication.k8s.io/v1
              command: bin/login
              args: [get, token]
              env: [{name: REGION, value: eu}]
              provideClusterInfo: true
        """
    private func read(_ context: String? = nil) throws -> ClusterAccess {
        try ClusterAccess.kubeconfig(Array(config.utf8), path: "/home/me/.kube/config", context: context)
    }

    @Test func readsKubeconfig() throws {
        let one = try read()
        #expect(one.serverName == "https://10.0.0.1:6443")
        #expect(one.certificateAuthority == .data(Array("hello".utf8)))
        #expect(one.tlsServerName == "kubernetes")
        #expect(one.proxy?.host == "proxy" && one.proxy?.port == 3128 && one.proxy?.userInfo == "u:p")
        #expect(one.clientCertificate == .data(Array("a".utf8)))
        #expect(one.clientKey == .file("/etc/key.pem"))
        #expect(one.login == .token("secret"))

        let two = try read("there")
        #expect(two.server.host == "fd00::1" && two.server.port == 443 && two.serverName == "https://[fd00::1]")
        #expect(two.certificateAuthority == .file("/home/me/.kube/pki/ca.crt"))
        #expect(two.skipsVerification)
        guard case .plugin(let plugin) = two.login else { throw TestFailure("no plugin") }
        #expect(plugin.command == "/home/me/.kube/bin/login" && plugin.arguments == ["get", "token"])
        #expect(plugin.environment == ["REGION": "eu"] && plugin.server == "https://[fd00::1]")

        let plain = try read("plain")
        #expect(plain.serverName == "http://127.0.0.1:6443" && plain.login == .none)
    }

    @Test(
        "Mistakes are named",
        arguments: [
            ("broken", "there is no cluster missing; it has one, two, plain"),
            ("nowhere", "there is no context nowhere"),
        ])
    func namesMistakes(context: String, message: String) {
        let error = #expect(throws: AccessError.self) { try read(context) }
        #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
    }

    @Test func readsPodsOwnFiles() throws {
        let access = try ClusterAccess.inCluster(
            environment: ["KUBERNETES_SERVICE_HOST": "fd00::a", "KUBERNETES_SERVICE_PORT": "6443"], directory: "/sa")
        #expect(access.serverName == "https://[fd00::a]:6443")
        #expect(access.login == .tokenFile("/sa/token"))
        #expect(access.certificateAuthority == .file("/sa/ca.crt"))
        let error = #expect(throws: AccessError.self) { try ClusterAccess.inCluster(environment: [:]) }
        #expect(error?.description.contains("--kubeconfig") == true)
    }

    @Test(arguments: [
        "", "10.0.0.1", "ftp://x", "https://", "https://x:0", "https://x:99999", "https://[::1", "http://x?a",
    ])
    func refusesServer(url: String) { #expect(ServerAddress(url) == nil) }

    @Test func base64() {
        for text in ["", "a", "ab", "abc", "abcd", "\u{ff}\u{0}x"] {
            #expect(decodeBase64(encodeBase64(Array(text.utf8))) == Array(text.utf8))
        }
        #expect(encodeBase64(Array("hello".utf8)) == "aGVsbG8=")
        for text in ["a", "ab", "abc", "ab=c", "ab==c", "a===", "a*==", "===="] { #expect(decodeBase64(text) == nil) }
    }

    @Test("A credential plugin is run with what it needs, and what it prints is used")
    func runsPlugin() async throws {
        let directory = try TemporaryDirectory()
        let script = directory.path + "/login"
        try writeText(
            """
            #!/bin/sh
            printf '%s' "$KUBERNETES_EXEC_INFO" > "$0.info"
            echo "{\\"kind\\":\\"ExecCredential\\",\\"status\\":{\\"token\\":\\"$REGION-$1\\"}}"
            """, to: script)
        var access = ClusterAccess(server: ServerAddress(scheme: "http", host: "h", port: 80))
        access.login = .plugin(
            ExecPlugin(
                apiVersion: ExecPlugin.versions[0], command: "/bin/sh", arguments: [script, "token"],
                environment: ["REGION": "eu"], server: "https://h"))
        let credential = try await Credentials(access).current()
        #expect(credential.authorization == "Bearer eu-token")
        #expect(readText(script + ".info").contains(#""cluster":{"server":"https://h"}"#))
    }

    @Test("Whoever asks at the same moment waits for one run; it runs again when it expires or is refused")
    func runsPluginOnceForAll() async throws {
        let directory = try TemporaryDirectory()
        let runs = directory.path + "/runs"
        let script = directory.path + "/login"
        try writeText(
            """
            echo run >> \(runs)
            sleep 0.2
            n=$(wc -l < \(runs))
            echo "{\\"status\\":{\\"token\\":\\"t$n\\",\\"expirationTimestamp\\":\\"2020-01-01T00:00:00Z\\"}}"
            """, to: script)
        var access = ClusterAccess(server: ServerAddress(scheme: "http", host: "h", port: 80))
        access.login = .plugin(
            ExecPlugin(apiVersion: ExecPlugin.versions[0], command: "/bin/sh", arguments: [script]))
        let credentials = Credentials(access)
        func ask() async throws -> [Credentials.Current] {
            try await withThrowingTaskGroup { group in
                for _ in 0..<6 { group.addTask { try await credentials.current() } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
        }
        let first = try await ask()
        #expect(first.allSatisfy { $0.authorization == "Bearer t1" })
        // Six watches are refused with it: the second run is for all of them.
        for credential in first { await credentials.refused(credential) }
        let second = try await ask()
        for credential in first { await credentials.refused(credential) }
        #expect(try await credentials.current().authorization == "Bearer t2")
        #expect(second.allSatisfy { $0.authorization == "Bearer t2" })
        #expect(readText(runs) == "run\nrun\n")
    }

    @Test("A plugin that failed rests, whoever asks")
    func restsAfterFailure() async throws {
        let directory = try TemporaryDirectory()
        let runs = directory.path + "/runs"
        var access = ClusterAccess(server: ServerAddress(scheme: "http", host: "h", port: 80))
        access.login = .plugin(
            ExecPlugin(
                apiVersion: ExecPlugin.versions[0], command: "/bin/sh",
                arguments: ["-c", "echo run >> \(runs); exit 1"]))
        var backoff = Backoff()
        backoff.first = .seconds(600)
        backoff.longest = .seconds(600)
        let credentials = Credentials(access, backoff: backoff)
        for _ in 0..<5 { await #expect(throws: AccessError.self) { try await credentials.current() } }
        #expect(readText(runs) == "run\n")
    }

    @Test("A plugin that hangs is ended with all it started, and so is one that only closes its output")
    func endsHangingPlugin() throws {
        let directory = try TemporaryDirectory()
        let pid = directory.path + "/pid"
        for script in ["sleep 1000 & echo $! > \(pid); wait", "echo '{}'; exec >&-; echo $$ > \(pid); sleep 1000"] {
            var plugin = ExecPlugin(apiVersion: ExecPlugin.versions[0], command: "sh", arguments: ["-c", script])
            plugin.patience = .milliseconds(500)
            let error = #expect(throws: AccessError.self) { try plugin.run() }
            #expect(error?.description.contains("did not end within") == true, "\(error?.description ?? "")")
            let child = try #require(Int32(readText(pid).trimmingSpace))
            try eventually("it has ended") { kill(child, 0) != 0 || isZombie(child) }
        }
    }
    private func isZombie(_ pid: Int32) -> Bool { readText("/proc/\(pid)/stat").contains(") Z ") }

    @Test("Beside a token file a token is only for the time while that cannot be read, as in client-go")
    func prefersTokenFile() async throws {
        let directory = try TemporaryDirectory()
        let text = """
            {current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}],
             clusters: [{name: c, cluster: {server: "http://h"}}],
             users: [{name: u, user: {token: old, tokenFile: tok}}]}
            """
        let access = try ClusterAccess.kubeconfig(Array(text.utf8), path: directory.path + "/config")
        let credentials = Credentials(access)
        #expect(try await credentials.current().authorization == "Bearer old")
        try writeText("new\n", to: directory.path + "/tok")
        #expect(try await credentials.current().authorization == "Bearer new")
    }

    @Test(
        "A certificate for somebody else is told with the name that was wanted", arguments: [nil, "http://proxy:3128"])
    func namesWantedCertificate(proxy: String?) throws {
        var access = ClusterAccess(server: ServerAddress(scheme: "https", host: "10.0.0.1", port: 6443))
        access.proxy = proxy.flatMap { ServerAddress($0) }
        #expect(access.foreignCertificateSentence.contains("10.0.0.1"))
        #expect(access.foreignCertificateSentence.contains("behind a proxy") == (proxy != nil))
        access.tlsServerName = "api.test"
        #expect(access.foreignCertificateSentence.contains("not for api.test"))
    }

    @Test(
        "A plugin that fails is an error that says how",
        arguments: [
            (["-c", "exit 3"], "ended with exit status 3"), (["-c", "echo no"], "is not valid JSON"),
            (["-c", "kill -9 $$"], "was killed by signal 9"),
        ])
    func explainsPluginFailure(arguments: [String], message: String) {
        let plugin = ExecPlugin(apiVersion: ExecPlugin.versions[0], command: "sh", arguments: arguments)
        let error = #expect(throws: AccessError.self) { try plugin.run() }
        #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
    }
}
