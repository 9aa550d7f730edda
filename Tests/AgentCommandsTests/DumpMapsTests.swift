// Every form of dump-maps, letter by letter; and that it stays usable with 100,000 entries.
import ArgumentParser
import Observation
import Testing

@testable import AgentCommands

@Suite struct DumpMapsTests {
    private let frontends: [KernelDump.Frontend] = [
        frontend("shop/web-2", "*", 30080, "NodePort", action: "reject", policy: "Local", affinity: 60),
        frontend("shop/web:http", "fd00::1", 80, backends: [("fd01::1", "active"), ("fd01::2", "terminating")]),
        frontend("shop/web:http", "10.96.0.1", 80, backends: (1...6).map { ("10.1.0.\($0)", "active") }),
        frontend("shop/web:admin", "10.96.0.1", 81, action: "proxy"),
    ]

    private static func frontend(
        _ service: String, _ address: String, _ port: UInt16, _ kind: String = "ClusterIP", action: String = "balance",
        policy: String = "Cluster", affinity: UInt32 = 0, backends: [(String, String)] = []
    ) -> KernelDump.Frontend {
        KernelDump.Frontend(
            address: address, port: port, protocol: "TCP", kind: kind, service: service, action: action,
            policy: policy, affinitySeconds: affinity,
            backends: backends.map { .init(address: $0.0, port: 8080, state: $0.1, local: $0.0.hasSuffix("1")) })
    }
    private func filter(_ arguments: String...) throws -> DumpFilter { try DumpFilter.parse(arguments) }

    @Test func theTableIsGroupedByService() {
        let expected = """
            SERVICE     PORT   KIND       FRONTEND          ACTION               POLICY   BACKENDS
            shop/web    admin  ClusterIP  10.96.0.1:81/TCP  proxy                Cluster  -
                        http   ClusterIP  10.96.0.1:80/TCP  balance              Cluster  \
            10.1.0.1:8080, 10.1.0.2:8080, 10.1.0.3:8080, 10.1.0.4:8080, +2
                        http   ClusterIP  [fd00::1]:80/TCP  balance              Cluster  \
            [fd01::1]:8080, [fd01::2]:8080 (terminating)
            shop/web-2  -      NodePort   *:30080/TCP       reject (sticky 60s)  Local    -

            """
        #expect(frontendTable(frontends, wide: false, paint: .off) == expected)
    }

    @Test func wideShowsEveryBackendAndWhichAreHere() {
        let wide = frontendTable([frontends[2]], wide: true, paint: .off)
        #expect(wide.contains("10.1.0.1:8080 (local), 10.1.0.2:8080, ") && wide.hasSuffix("10.1.0.6:8080\n"))
    }

    @Test func coloursChangeNoColumn() {
        let paint = Paint(isTerminal: true, noColor: nil, terminal: "xterm")
        let coloured = frontendTable(frontends, wide: false, paint: paint)
        for part in [
            "\u{1B}[1mshop/web\u{1B}[0m    admin", "\u{1B}[31mreject (sticky 60s)\u{1B}[0m  Local",
            "\u{1B}[33m(terminating)\u{1B}[0m\n", "\u{1B}[32mbalance\u{1B}[0m              Cluster",
        ] {
            #expect(coloured.contains(part))
        }
        let plain = ["1", "31", "32", "33", "0"].reduce(coloured) { $0.replacing("\u{1B}[\($1)m", with: "") }
        #expect(plain == frontendTable(frontends, wide: false, paint: .off))
    }

    @Test(
        arguments: [
            (true, nil, "xterm", true), (true, "", "xterm", true), (true, "1", "xterm", false),
            (true, nil, "dumb", false), (false, nil, "xterm", false),
        ] as [(Bool, String?, String?, Bool)])
    func coloursOnlyForPeople(_ isTerminal: Bool, _ noColor: String?, _ terminal: String?, _ isOn: Bool) {
        #expect(Paint(isTerminal: isTerminal, noColor: noColor, terminal: terminal).isOn == isOn)
    }

    private let rawGolden = """
        service=shop/web:admin kind=ClusterIP frontend=10.96.0.1:81/TCP action=proxy policy=Cluster affinity=0
        service=shop/web:http kind=ClusterIP frontend=[fd00::1]:80/TCP action=balance policy=Cluster affinity=0 \
        backend=[fd01::1]:8080 state=active local=yes weight=1
        service=shop/web:http kind=ClusterIP frontend=[fd00::1]:80/TCP action=balance policy=Cluster affinity=0 \
        backend=[fd01::2]:8080 state=terminating local=no weight=1
        service=shop/web-2 kind=NodePort frontend=*:30080/TCP action=reject policy=Local affinity=60

        """

    @Test func rawIsTheSameInWhateverOrderTheKernelLists() {
        var few = [frontends[0], frontends[1], frontends[3]]
        #expect(rawText(few) == rawGolden)
        few[1].backends.reverse()
        few.reverse()
        #expect(rawText(few) == rawGolden)
    }

    @Test func aDifferenceShowsTheLinesThatDiffer() {
        var kernel = frontends
        kernel[0].action = "drop"
        kernel[1].backends[0].port = 9090
        kernel.removeLast()
        let changes = DumpChanges(from: frontends, to: kernel)
        let raw = rawText(frontends).split(separator: "\n")
        let missing = raw.filter { $0.contains(":admin") || $0.contains("fd01::1") || $0.contains("web-2") }
        let web =
            "service=shop/web:http kind=ClusterIP frontend=[fd00::1]:80/TCP action=balance policy=Cluster affinity=0"
        let expected =
            missing.map { "- \($0)\n" }.joined() + "+ \(web) backend=[fd01::1]:9090 state=active local=yes weight=1\n"
            + "+ service=shop/web-2 kind=NodePort frontend=*:30080/TCP action=drop policy=Local affinity=60\n"
        #expect(missing.count == 3 && changes.text(.off) == expected)
        #expect(changes.text(Paint(isOn: true)).hasPrefix("\u{1B}[31m- service=shop/web:admin "))
        #expect(DumpChanges(from: kernel, to: kernel).isEmpty)
    }

    @Test func onlyWhatDiffersTwiceIsADifference() {
        var changes = DumpChanges(from: frontends, to: [])
        changes.formIntersection(DumpChanges(from: [frontends[3]], to: [frontends[0]]))
        #expect(changes.removed.count == 1 && changes.added.isEmpty)
    }

    @Test func filtersPickServicesNamespacesAndAddresses() throws {
        let services = { (filter: DumpFilter) in try filter.filtered(frontends).map(\.service) }
        #expect(try services(filter("--service", "shop/web")).count == 3)
        #expect(try services(filter("--service", "shop/web:admin")) == ["shop/web:admin"])
        #expect(try services(filter("--namespace", "shop")).count == 4)
        #expect(try services(filter("--address", "fd01::2")) == ["shop/web:http"])
        #expect(try services(filter("--address", "10.96.0.1", "--service", "shop/web:http")).count == 1)
        let nothing = try filter("--namespace", "sho", "--address", "10.9.9.9")
        let failure = #expect(throws: CommandFailure.self) { try nothing.filtered(frontends) }
        #expect(failure?.description == "the kernel holds nothing of namespace sho, address 10.9.9.9")
        #expect(try filter().filtered([]).isEmpty)
    }

    @Test(
        arguments: [
            ["--diff", "--watch"], ["--map", "services", "--raw"], ["--map", "services", "--namespace", "a"],
            ["--watch", "-o", "json"], ["--interval", "soon"],
        ])
    func whatDoesNotGoTogetherIsRefused(_ arguments: [String]) {
        #expect(AgentctlProgram.run(["dump-maps"] + arguments) == 2)
    }

    /// The limit is far above what it takes, and far below what anything quadratic would.
    @Test(.timeLimit(.minutes(1))) func aHundredThousandEntriesAreNoTrouble() {
        let many = (0..<20_000).map { number in
            let (high, low) = (number / 250, number % 250)
            return Self.frontend(
                "ns/service-\(number):http", "10.96.\(high).\(low)", 80,
                backends: (0..<5).map { ("10.\($0 + 1).\(high).\(low)", "active") })
        }
        let raw = rawText(many)
        #expect(raw.utf8.count { $0 == UInt8(ascii: "\n") } == 100_000)
        let table = frontendTable(many, wide: false, paint: Paint(isOn: true))
        #expect(table.utf8.count { $0 == UInt8(ascii: "\n") } == 20_001)
        var other = many
        other[7].backends[0].local.toggle()
        let changes = DumpChanges(from: many, to: other)
        #expect(changes.removed.count == 1 && changes.added.count == 1)
    }
}
