/// What leaves the node in a bug report: whole files, and no secrets.
import ArgumentParser
import Glibc
import TestSupport
import Testing

@testable import AgentCommands

@Suite struct BugReportTests {
    @Test(arguments: [
        ("command: heddle-agent run --token abc.def --node-name n", "abc.def"),
        ("command: heddle-agent run --token=abc.def --node-name n", "abc.def"),
        (#"{"token":"s3cr3t","node":"n"}"#, "s3cr3t"), (#"  "password": "s3cr3t","#, "s3cr3t"),
        ("authorization: Bearer s3cr3t", "s3cr3t"), ("Authorization: Basic s3cr3t==", "s3cr3t"),
        ("header Bearer s3cr3t end", "s3cr3t"), ("client-key-data: LS0tLS1CRUdJTg==", "LS0tLS1CRUdJTg"),
        (#""GET /?id=7&token=s3cr3t HTTP/1.1" 200"#, "s3cr3t"), ("Cookie: sid=s3cr3t", "s3cr3t"),
        ("saw eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMzQ1Njc4OTAifQ.eyJpc3MiOiJrdWJlIn0.c2ln end", "c2ln"),
        ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----\nb", "MIIEow"),
    ])
    func secretsAreRemoved(text: String, secret: String) {
        let (clean, removed) = Redaction.clean(text)
        #expect(!clean.contains(secret) && removed > 0 && clean.contains(Redaction.mark), "\(clean)")
    }

    @Test(arguments: [
        "service shop/cart 10.96.0.1:80 -> 10.244.1.11:8080", "command: heddle-agent run --token-file /var/run/x",
        "heddle_services{dataplane=\"ebpf\"} 10\nheddle_endpoints 20", "map svc_v4 entries=10 max=65536",
    ])
    func everythingElseStays(text: String) {
        let (clean, removed) = Redaction.clean(text)
        #expect(clean == text && removed == 0)
    }

    @Test func theArchiveIsOneThatTarReads() throws {
        let folder = try TemporaryDirectory()
        let path = folder.path + "/report.tar.gz"
        let long = String(repeating: "0123456789abcdef\n", count: 5000)
        let archive = try TarArchive(path: path, time: 1_700_000_000)
        try archive.add("report/empty.txt", "")
        try archive.add("report/long.txt", long)
        try archive.add("report/exact.txt", String(repeating: "x", count: 512))
        try archive.finish()
        let listed = try run(["tar", "-tzvf", path])
        #expect(listed.split(separator: "\n").count == 3 && listed.contains("-rw-------"))
        #expect(try run(["tar", "-xzOf", path, "report/long.txt"]) == long)
        #expect(try run(["tar", "-xzOf", path, "report/exact.txt"]).utf8.count == 512)
        var information = stat()
        #expect(stat(path, &information) == 0 && information.st_mode & 0o777 == 0o600)
        #expect(throws: CommandFailure.self) { _ = try TarArchive(path: path, time: 0) }
    }

    @Test(arguments: ["bash", "zsh", "fish"]) func shellsAreTaught(shell: String) throws {
        let command = try Agentctl.parseAsRoot(["completion", shell])
        #expect(command is Completion)
        #expect(Agentctl.completionScript(for: .bash).contains("dump-maps"))
    }
}
