/// Comparisons of the maps in pieces of bounded cost, with writes in between.
import Addressing
import BPF
import CDataplaneABI
import DataplaneIR
import Glibc
import LinuxDataplane
import Reconcile
import Testing
import TestSupport

@Suite(.requiresKernel(.netns, .cgroup2, .bpf)) struct BPFComparisonTests {
    private static let budget = 300

    private func service(_ number: Int, endpoints: Int = 10) -> ServiceProgram {
        BPFService(
            name: "s\(number)", frontends: [clusterIP("10.96.\(number / 250).\(number % 250 + 1):80")],
            cluster: (1...endpoints).map { at("10.1.\($0).1:8080") }
        ).program
    }

    private func withServices(_ count: Int, _ body: (BPFTestNode) throws -> Void) throws {
        try BPFTestNode.with {
            $0.sizes.frontends = 16_384
            $0.sizes.services = 4096
            $0.sizes.backends = 65_536
        } _: { test in
            try test.applyAll((0..<count).map { service($0) })
            try body(test)
        }
    }

    /// The pieces of one comparison, from its beginning; `between` runs after each.
    private func compare(_ test: BPFTestNode, _ between: (Int) throws -> Void = { _ in }) throws -> (
        drift: [Drift], entries: [Int]
    ) {
        var drift: [Drift] = []
        var entries: [Int] = []
        for number in 1...1000 {
            let piece = try test.dataplane.compare(entries: Self.budget, restarts: number == 1)
            drift += piece.drift
            entries.append(piece.entries)
            if piece.isLast { return (drift, entries) }
            try between(number)
        }
        throw TestFailure("a comparison without an end")
    }

    @Test func aPieceCostsTheSameAtAnySizeAndTogetherTheyAreEverything() throws {
        try withServices(1000) { test in
            let (drift, entries) = try compare(test)
            #expect(drift == [])
            // A batch is at least one bucket, a service is not cut.
            let largest = entries.max() ?? 0
            #expect(largest <= Self.budget + 64)
            // Of each service the word and ten endpoints, two frontends and the name: each once.
            let sum = entries.reduce(0, +)
            #expect(sum == 5000)
        }
    }

    @Test func plansBetweenThePiecesAreNoDifferences() throws {
        try withServices(600) { test in
            let (drift, entries) = try compare(test) { number in
                try test.update(service(number, endpoints: 3), service(2000 + number))
                try test.update(remove: [service(300 + number).id])
                if number % 2 == 0 { try test.dataplane.collectGarbage() }
            }
            #expect(drift == [])
            #expect(entries.count >= 10)
            #expect(try test.dataplane.verify(quick: false) == [])
        }
    }

    @Test(arguments: [
        "frontends", "live", "stray", "moved", "services", "backends", "service_names", "stray name", "config",
    ])
    func whatOthersDidMeanwhileIsFoundByTheNextComparison(damage: String) throws {
        try withServices(300) { test in
            let pinned = { (name: String) throws in
                try #require(try BPFDescriptor.pinned(at: "\(test.options.bpffs)/maps/\(name)"))
            }
            let frontends = try BPFMap<heddle_frontend_key, heddle_frontend>(pinned("frontends"), name: "frontends")
            let entries = try frontends.entries()
            let entry = try #require(entries.first { $0.key.scope == 0 })
            let live = try #require(entries.first { $0.key.scope == 2 })
            let places = [
                "live": "frontends", "stray": "frontends", "moved": "frontends", "stray name": "service_names",
            ]
            let object = places[damage] ?? damage
            let during = try compare(test) { number in
                guard number == 3 else { return }
                switch damage {
                case "frontends": try frontends.delete(entry.key)
                case "live": try frontends.delete(live.key)
                case "stray":
                    var key = entry.key
                    key.port = 99
                    try frontends.update(key, entry.value)
                case "moved":
                    var value = entry.value
                    value.slot += 1
                    try frontends.update(entry.key, value)
                case "stray name":
                    let names = try BPFMap<UInt32, heddle_service_name>(pinned("service_names"), name: "")
                    try names.update(1 << 30, try #require(try names.lookup(entry.value.svc_id)))
                case "services": try BPFMap<UInt32, UInt64>(pinned("services"), name: "").update(entry.value.slot, 0)
                case "backends":
                    let words = try BPFMap<UInt32, UInt64>(pinned("services"), name: "services")
                    let base = UInt32(truncatingIfNeeded: try #require(try words.lookup(entry.value.slot)))
                    let backends = try BPFMap<UInt32, heddle_backend>(pinned("backends"), name: "backends")
                    var backend = try #require(try backends.lookup(base + 1))
                    backend.port = 1
                    try backends.update(base + 1, backend)
                case "service_names":
                    try BPFMap<UInt32, heddle_service_name>(pinned("service_names"), name: "").delete(
                        entry.value.svc_id)
                default:
                    let config = try BPFMap<UInt32, heddle_config>(pinned("config"), name: "config")
                    var wrong = try #require(try config.lookup(0))
                    wrong.cluster_ip_first.0 = .max
                    try config.update(0, wrong)
                }
            }
            let after = try compare(test) { number in if number == 2 { try test.update(service(900)) } }
            #expect(after.drift.contains { $0.object == "map \(object)" }, "\(during.drift) \(after.drift)")
            try test.applyAgain()
            #expect(try compare(test).drift == [])
        }
    }
}
