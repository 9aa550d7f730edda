// What people read of the certificate authority.
import AdminAPI
import ArgumentParser
import Testing

@testable import AgentCommands

@Suite struct AuthorityTextTests {
    private let now = 1_800_000_000
    private var report: AuthorityReport {
        var report = AuthorityReport(identity: "a", trustDomain: "cluster.local")
        let days = { (days: Int) in now + days * 86_400 }
        let print = String(repeating: "ab", count: 32)
        report.keys.isReady = true
        report.keys.root = .init(
            subject: "O=Heddle", serial: "1", fingerprint: print, notBefore: now, notAfter: days(3649))
        report.keys.intermediate = .init(
            subject: "CN=i", serial: "2", fingerprint: print, notBefore: now, notAfter: days(89))
        (report.pods, report.podsAreListed, report.issuedCount) = (7, true, 2)
        report.refusedCounts = ["bad-request": 1, "not-on-node": 3]
        report.issued = [
            .init(
                serial: "0a", identity: "spiffe://cluster.local/ns/shop/sa/web", requester: "kube-system/heddle",
                node: "node-1", at: now - 5, notAfter: days(1))
        ]
        report.refused = [.init(peer: "10.0.0.1", reason: "not-on-node", sentence: "it is not there", at: now - 7200)]
        return report
    }

    @Test func aReadyOneOnOnePage() {
        let expected = """
            authority         trust domain cluster.local, own root
            state             ready
            root              O=Heddle, ends in 3649d, sha256 abababababababab…
            intermediate      CN=i, ends in 89d, sha256 abababababababab…
            pods              7
            issued            2 by this replica, a, since it began
            refused           4: not-on-node 3, bad-request 1

            ISSUED  IDENTITY                               TO                  NODE    ENDS    SERIAL
            5s ago  spiffe://cluster.local/ns/shop/sa/web  kube-system/heddle  node-1  in 24h  0a

            REFUSED  PEER      REASON       WHY
            2h ago   10.0.0.1  not-on-node  it is not there

            """
        #expect(authorityText(report, now: now, wide: false) == expected)
    }

    @Test func whatIsInTheWayIsSaid() {
        var report = AuthorityReport(identity: "a", trustDomain: "td")
        report.keys.origin = "cacerts"
        report.keys.problems = ["Secret cacerts cannot be read"]
        let text = authorityText(report, now: now, wide: false)
        #expect(text.contains("trust domain td, cacerts\n") && text.contains("NOT ready: it has no key yet\n"))
        #expect(text.contains("\nproblem           Secret cacerts cannot be read\n"))
        report.keys.isReady = true
        #expect(authorityText(report, now: now, wide: false).contains("NOT ready: the pods of the cluster"))
    }

    @Test func theStatusOfTheClusterHasALine() {
        var status = ControllerStatus(identity: "a", version: "1", source: .init(name: "https://api"))
        #expect(!clusterStatusText(status, wide: true).contains("authority"))
        var report = report
        report.problems = ["the root ends soon"]
        status.authority = ControllerStatus.Authority(report)
        let text = clusterStatusText(status, wide: false, now: now)
        #expect(
            text.contains(
                "\nauthority         ready, cluster.local, root ends in 3649d, 2 issued and 4 refused by this replica\n"
            ))
        #expect(text.contains("\nproblem           the root ends soon\n"))
    }

    @Test(arguments: [
        ["ca"], ["ca", "--cluster"], ["ca", "renew", "root", "--cluster"], ["ca", "status", "-o", "wide"],
    ])
    func theseAreCommands(arguments: [String]) {
        #expect(throws: Never.self) { try Agentctl.parseAsRoot(arguments) }
    }
    @Test(arguments: [["ca", "renew"], ["ca", "renew", "leaf"]])
    func theseAreNot(arguments: [String]) {
        #expect(throws: (any Error).self) { try Agentctl.parseAsRoot(arguments) }
    }
}
