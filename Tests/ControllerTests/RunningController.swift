/// A controller process beside a fake API server, and its files.
import AdminAPI
import FakeAPIServer
import FoundationEssentials
import Glibc
import TestSupport
import Testing

struct RunningController {
    private let directory: TemporaryDirectory
    let process: ChildProcess
    var socket: String { directory.path + "/controller.sock" }
    /// Of its certificate authority.
    let authorityPort: UInt16
    let webhookPort: UInt16
    /// What it wrote, in JSON.
    var log: String { readText(directory.path + "/log") }

    /// Called `name`; `options`: more than it needs.
    init(_ name: String, _ server: FakeAPIServer, token: String = "secret", options: [String] = []) throws {
        directory = try TemporaryDirectory()
        (authorityPort, webhookPort) = (try freePort(), try freePort())
        let (kubeconfig, path) = (directory.path + "/kubeconfig", directory.path + "/log")
        try writeText(server.kubeconfig(token: token), to: kubeconfig)
        let log = Glibc.open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
        defer { close(log) }
        process = try ChildProcess(
            [
                programDirectory + "/heddle-controller", "run", "--kubeconfig", kubeconfig, "--identity", name,
                "--api-socket", directory.path + "/controller.sock", "--healthz-address", "127.0.0.1:0",
                "--metrics-address", "127.0.0.1:0", "--ca-address", "127.0.0.1:\(authorityPort)", "--webhook-address",
                "127.0.0.1:\(webhookPort)", "--log-format", "json",
            ] + options, descriptors: [log, log, log])
    }

    func agentctl(_ arguments: String...) throws -> String {
        try run([programDirectory + "/agentctl"] + arguments + ["--cluster", "--api-socket", socket])
    }
    func report() throws -> AuthorityReport {
        try JSONDecoder().decode(AuthorityReport.self, from: Data(agentctl("ca", "-o", "json").utf8))
    }
    func status() throws -> ControllerStatus {
        try JSONDecoder().decode(ControllerStatus.self, from: Data(agentctl("status", "-o", "json").utf8))
    }
    /// As Kubernetes ends it.
    func end() throws {
        process.signal(SIGTERM)
        #expect(try process.wait() == 0)
    }
}
