/// Kubeconfigs, pods' own files, and credential plugins.
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
