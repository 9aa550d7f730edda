/// Comparisons in pieces, with writes in between: what others did is found, what we did is no difference.
import Addressing
import DataplaneIR
import Glibc
import Netns
import Nftables
import Reconcile
import Testing
import TestSupport

@testable import LinuxDataplane

@Suite(.requiresKernel(.netns, .nftables)) struct NftablesComparisonTests {
    private func service(_ number: Int, endpoints: Int = 4) throws -> TestService {
        TestService(
            name: "s\(number)",
            frontends: [Frontend(.clusterIP, try address("10.96.\(number / 250).\(number % 250 + 1)"), 80)],
            cluster: (1...endpoints).map { "10.1.\($0).1:8080" })
    }

    /// The pieces of one comparison, from its beginning; `between` runs after each.
    private func compare(
        _ dataplane: NftablesDataplane, entries: Int = 500, _ between: (Int) throws -> Void = { _ in }
    ) throws -> (drift: [Drift], pieces: Int) {
        var drift: [Drift] = []
        for number in 1...500 {
            let piece = try dataplane.compare(entries: entries, restarts: number == 1)
            drift += piece.drift
            if piece.isLast { return (drift, number) }
            try between(number)
        }
        throw TestFailure("a comparison without an end")
    }

    /// However often: after each piece another plan, which spoils the list that is being read.
    @Test func plansBetweenThePiecesAreNoDifferences() throws {
        try NetworkNamespace.anonymous().run {
            let dataplane = try NftablesDataplane()
            let feeder = PlanFeeder(dataplane)
            try feeder.apply(try (0..<1500).map { try service($0) }, full: true)
            let quiet = try compare(dataplane)
            #expect(quiet.drift == [])
            #expect(quiet.pieces >= 10)
            let busy = try compare(dataplane) { number in
                try feeder.apply([try service(number, endpoints: 3), try service(2000 + number)])
                if number % 3 == 0 { try dataplane.collectGarbage() }
                if number % 5 == 0 { try feeder.apply([], removing: [try service(number).id]) }
            }
            #expect(busy.drift == [])
            #expect(busy.pieces >= 10)
            #expect(try dataplane.verify(quick: false) == [])
        }
    }

    @Test(arguments: [
        "nft delete element ip heddle endpoints '{ 10.96.0.1 . tcp . 80 . 1 }'",
        "nft add element ip heddle endpoints '{ 10.96.0.1 . tcp . 80 . 9 : 10.9.9.9 . 1 }'",
        "nft 'delete element ip heddle endpoints { 10.96.0.1 . tcp . 80 . 1 };"
            + " add element ip heddle endpoints { 10.96.0.1 . tcp . 80 . 1 : 10.9.9.9 . 1 }'",
        "nft 'delete element ip heddle service-ips { 10.96.0.1 . tcp . 80 };"
            + " add element ip heddle service-ips { 10.96.0.1 . tcp . 80 : drop }'",
        "nft flush set ip heddle cluster-ips", "nft flush chain ip heddle services", "nft delete table ip6 heddle",
    ])
    func whatOthersDidMeanwhileIsFoundByTheNextComparison(damage: String) throws {
        try NetworkNamespace.anonymous().run {
            let dataplane = try NftablesDataplane()
            let feeder = PlanFeeder(dataplane)
            let services = try (0..<600).map { try service($0) }
            try feeder.apply(services, full: true)
            let during = try compare(dataplane) { number in
                if number == 2 { try shell(damage) }
            }
            let after = try compare(dataplane) { number in
                if number == 2, !damage.contains("table") { try feeder.apply([try service(700)]) }
            }
            #expect(!after.drift.isEmpty, "found meanwhile: \(during.drift)")
            try feeder.apply(services, full: true)
            try dataplane.collectGarbage()
            #expect(try compare(dataplane).drift == [])
        }
    }

    /// Every kind of plan keeps the digest what the kernel holds.
    @Test func theDigestIsThatOfTheKernelsElements() throws {
        try NetworkNamespace.anonymous().run {
            var dataplane = try NftablesDataplane()
            var feeder = PlanFeeder(dataplane)
            func expectAgreement(_ what: Comment) throws {
                for mirror in dataplane.mirrors {
                    let read = try TableObservation.read(mirror.table, dataplane.connection, withElements: true)
                    let elements = try #require(read).elements.values
                    #expect(TableDigest(elements) == mirror.digest, what)
                }
            }
            var web = try service(1)
            web.frontends.append(Frontend(.nodePort, nil, 30080))
            web.frontends.append(
                Frontend(.loadBalancer, try address("203.0.113.1"), 80, sourceRanges: [try prefix("10.0.0.0/8")]))
            web.sharedLocal = 2
            web.externalPolicy = .local
            try feeder.apply([web, try service(2)], full: true)
            try expectAgreement("a new table")
            web.cluster[1] = "10.1.0.77:8080 local"
            try feeder.apply([web, try service(2, endpoints: 1), try service(3)])
            try expectAgreement("a change")
            try feeder.apply([], removing: [try service(2).id])
            try expectAgreement("a removal")
            try dataplane.collectGarbage()
            try expectAgreement("the collection of garbage")
            feeder.node.serviceCIDRs = [try prefix("10.96.0.0/16")]
            feeder.node.nodePortAddresses = [try address("192.168.0.2")]
            try feeder.apply([])
            try expectAgreement("a change of the node")
            let node = feeder.node
            dataplane = try NftablesDataplane()
            feeder = PlanFeeder(dataplane, node: node)
            web.affinity = 60
            try feeder.apply([web, try service(4)], full: true)
            try expectAgreement("a table that was found")
            try dataplane.collectGarbage()
            try expectAgreement("what was found too much")
        }
    }

    /// The count of commits is all that an idle agent asks for.
    @Test(arguments: [1, 1000]) func aQuickLookIsOneRequestAtAnySize(services: Int) throws {
        try NetworkNamespace.anonymous().run {
            let dataplane = try NftablesDataplane()
            let feeder = PlanFeeder(dataplane)
            try feeder.apply(try (0..<services).map { try service($0) }, full: true)
            func requests(_ body: () throws -> Void) throws -> UInt32 {
                let before = dataplane.connection.makeBatch().lastSequence
                try body()
                return dataplane.connection.makeBatch().lastSequence - before
            }
            let none = try requests {}
            func quick() throws {
                let drift = try dataplane.verify(quick: true)
                #expect(drift == [])
            }
            _ = try requests(quick)
            let idle = try requests(quick)
            #expect(idle - none == 1)
            try shell("nft add table ip other")
            let disturbed = try requests(quick)
            #expect(disturbed - none > 1)
            let idleAgain = try requests(quick)
            #expect(idleAgain - none == 1)
        }
    }
}
