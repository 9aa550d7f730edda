// What people see: aligned tables, ages, sizes, the kernel dump and the status page.
import AdminAPI
import Reconcile
import Testing

@testable import AgentCommands

@Suite struct TableTests {
    @Test func columnsAreAlignedWithoutTrailingSpaces() {
        var table = Table("NAME", "SIZE")
        table.add("a-long-name", "1")
        table.add("b", "200")
        #expect(table.text == "NAME         SIZE\na-long-name  1\nb            200\n")
    }

    @Test func agesAndSizes() {
        #expect(age(0.44) == "0.4s" && age(65) == "65s" && age(600) == "10m" && age(90_000) == "25h")
        #expect(byteCount(512) == "512 B" && byteCount(1536) == "1.5 KiB" && byteCount(64 << 20) == "64.0 MiB")
    }

    private let dump = KernelDump(
        node: "n", dataplane: "nftables", generation: 3,
        frontends: [
            .init(
                address: "fd00::1", port: 80, protocol: "TCP", kind: "ClusterIP", service: "ns/web:http",
                action: "balance", policy: "Cluster", affinitySeconds: 0,
                backends: [
                    .init(address: "fd01::1", port: 8080, state: "active", local: true),
                    .init(address: "fd01::2", port: 8080, state: "terminating", local: false),
                ]),
            .init(
                address: "*", port: 30080, protocol: "TCP", kind: "NodePort", service: "ns/web2:http",
                action: "reject", policy: "Local", affinitySeconds: 60, backends: []),
        ],
        maps: [MapUsage(name: "services", type: "map", entries: 5, maxEntries: 10, bytes: 100)])

    @Test func dumpsShowOneFrontendALine() {
        let lines = frontendTable(dump, wide: false).split(separator: "\n").map {
            $0.split(separator: " ").joined(separator: " ")
        }
        #expect(
            lines == [
                "SERVICE KIND FRONTEND ACTION POLICY BACKENDS",
                "ns/web:http ClusterIP [fd00::1]:80/TCP balance Cluster [fd01::1]:8080, [fd01::2]:8080 (terminating)",
                "ns/web2:http NodePort *:30080/TCP reject (sticky 60s) Local -",
            ])
        #expect(rawTable(dump).split(separator: "\n").count == 4)
    }

    @Test func oneServiceOrMapIsPickedByItsName() throws {
        #expect(try filtered(dump, map: nil, service: "ns/web").frontends.map(\.service) == ["ns/web:http"])
        #expect(try filtered(dump, map: "services", service: nil).maps.count == 1)
        #expect(throws: CommandFailure.self) { try filtered(dump, map: nil, service: "ns/we") }
        #expect(throws: CommandFailure.self) { try filtered(dump, map: "nope", service: nil) }
    }

    @Test func theStatusSaysWhatIsWrong() {
        var status = AgentStatus(
            node: "n", version: "1", dataplane: .init(name: "ebpf", configured: "asked for"))
        status.sync.failuresInARow = 2
        status.sync.lastError = "map full"
        status.refused = [.init(service: "ns/a", reason: "does not fit")]
        status.sources = [.init(name: "manifests:/m")]
        let text = statusText(status, wide: false)
        for part in ["NOT ready", "NOT attached", "NOT in sync", "2 failures: map full", "ns/a: does not fit"] {
            #expect(text.contains(part))
        }
    }
}
