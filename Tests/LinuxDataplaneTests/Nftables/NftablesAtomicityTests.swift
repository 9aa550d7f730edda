/// Connections made as fast as possible while the endpoints change: none fails, and none reaches an endpoint that was
/// in no set in force between its start and its end.
import Addressing
import DataplaneIR
import LinuxDataplane
import TestSupport
import Testing

@Suite(.requiresKernel(.netns, .cgroup2, .nftables)) struct NftablesAtomicityTests {
    @Test(arguments: [nil, 600] as [UInt32?]) func noConnectionMeetsHalfAnUpdate(_ affinity: UInt32?) throws {
        try TrafficLab.with { lab in
            let sets: [[Pod]] = [[lab.a], [lab.a, lab.b], [lab.c], [lab.c, lab.a, lab.b], [lab.b], [lab.c, lab.b]]
            var published: [(time: UInt64, names: Set<String>)] = []
            func apply(_ pods: [Pod], full: Bool = false) throws {
                var service = lab.service(.ipv4, pods: pods)
                service.affinity = affinity
                // From before the commit: a connection may meet the new set before we hear that it is in force.
                published.append((monotonicNs(), Set(pods.map(\.name))))
                try lab.feeder.apply([service], full: full)
                published.append((monotonicNs(), []))
            }
            try apply(sets[0], full: true)
            let storm = try lab.client.storm(.tcp, to: lab.frontends(.ipv4)[0], threads: 2, timeoutMs: 5000)
            var generator = SeededGenerator()
            for round in 0..<600 {
                try apply(sets[Int(generator.next() % UInt64(sets.count))])
                if round % 3 == 0 { try lab.feeder.dataplane.collectGarbage() }
            }
            let connections = try storm.stop()
            let failed = connections.filter { $0.error != 0 }
            #expect(
                failed.isEmpty && !connections.isEmpty,
                "\(failed.count) of \(connections.count) failed: \(failed.prefix(3))")
            let strays = connections.filter { connection in
                guard let name = connection.name else { return false }
                return !names(in: published, from: connection.start, to: connection.end).contains(name)
            }
            #expect(strays.isEmpty, "seed \(generator.seed): \(strays.prefix(3))")
            #expect(try lab.feeder.dataplane.verify(quick: false) == [])
        }
    }

    /// Every other entry is the moment a set was known to be in force; then the one before it is gone.
    private func names(in published: [(time: UInt64, names: Set<String>)], from start: UInt64, to end: UInt64) -> Set<
        String
    > {
        var result: Set<String> = []
        for index in stride(from: 0, to: published.count, by: 2) where published[index].time <= end {
            let isReplaced = index + 3 < published.count && published[index + 3].time < start
            if !isReplaced { result.formUnion(published[index].names) }
        }
        return result
    }
}
