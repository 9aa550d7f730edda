/// Which endpoints are chosen: spec rows 44-63, one test a rule.
import Addressing
import Cluster
import DataplaneIR
import Testing

@testable import Compile

@Suite struct EndpointSelectionTests {
    private let node = NodeFacts(name: "here", zone: "a")
    private let ready: EndpointSlice.Conditions = [.ready, .serving]
    private let draining: EndpointSlice.Conditions = [.serving, .terminating]

    private func endpoint(
        _ last: UInt32, _ conditions: EndpointSlice.Conditions, on node: String? = "there", zones: [String]? = nil,
        nodes: [String]? = nil
    ) -> EndpointSlice.Endpoint {
        .init(
            IPAddress(v4: 0x0a00_0000 + last), conditions: conditions, nodeName: node, forZones: zones, forNodes: nodes)
    }
    /// The last octets of the cluster and the local set.
    private func sets(_ endpoints: [EndpointSlice.Endpoint], node: NodeFacts? = nil) -> (
        cluster: [UInt32], local: [UInt32]
    ) {
        let node = node ?? self.node
        let selection = select(endpoints.map { Candidate($0, port: 80, node: node) }, node: node)
        let last = { (range: Range<Int>) in selection.backends[range].map { $0.address.address.v4 & 255 }.sorted() }
        return (last(selection.clusterRange), last(selection.localRange))
    }

    @Test func row51_onlyReadyEndpoints() {
        #expect(sets([endpoint(1, ready), endpoint(2, [.serving]), endpoint(3, [])]).cluster == [1])
    }
    @Test func row52_nothingReadyFallsBackToServingTerminatingAndIgnoresHints() {
        let all = [
            endpoint(1, draining, zones: ["b"]), endpoint(2, [.terminating]), endpoint(3, draining, zones: ["a"]),
        ]
        #expect(sets(all).cluster == [1, 3])
    }
    @Test func row53_localFallbackIsSeparate() {
        let result = sets([endpoint(1, draining, on: "here"), endpoint(2, ready)])
        #expect(result.cluster == [2])
        #expect(result.local == [1])
    }
    @Test func row54_terminatingWithoutServingIsNeverUsed() {
        let result = sets([endpoint(1, [.terminating], on: "here")])
        #expect(result.cluster.isEmpty && result.local.isEmpty)
    }
    @Test func row56_localIsByNodeNameOnly() {
        let result = sets([endpoint(1, ready, on: nil), endpoint(2, ready, on: "HERE"), endpoint(3, ready, on: "here")])
        #expect(result.local == [3])
    }
    @Test func row58_nodeHints() {
        let all = [
            endpoint(1, ready, zones: ["b"], nodes: ["here"]), endpoint(2, ready, zones: ["a"], nodes: ["there"]),
        ]
        #expect(sets(all).cluster == [1])
    }
    @Test func row59_zoneHints() {
        #expect(sets([endpoint(1, ready, zones: ["a"]), endpoint(2, ready, zones: ["b"])]).cluster == [1])
    }
    @Test func row60_oneWithoutHintSwitchesThemOff() {
        #expect(
            sets([endpoint(1, ready, zones: ["a"]), endpoint(2, ready, zones: ["b"]), endpoint(3, ready)]).cluster == [
                1, 2, 3,
            ])
    }
    @Test func row61_unreadyEndpointsNeitherSpoilNorSatisfyHints() {
        #expect(
            sets([endpoint(1, ready, zones: ["a"]), endpoint(2, ready, zones: ["b"]), endpoint(3, [.serving])]).cluster
                == [1])
        #expect(sets([endpoint(1, [.serving], zones: ["a"]), endpoint(2, ready, zones: ["b"])]).cluster == [2])
    }
    @Test func row62_noZoneNoZoneHints() {
        let all = [endpoint(1, ready, zones: ["a"]), endpoint(2, ready, zones: ["b"])]
        #expect(sets(all, node: NodeFacts(name: "here")).cluster == [1, 2])
    }
    @Test func row63_hintsDoNotShrinkTheLocalSetAndTheSetsMayBeIncomparable() {
        let all = [
            endpoint(1, ready, on: "there", zones: ["a"]), endpoint(2, ready, on: "here", zones: ["b"]),
            endpoint(3, ready, on: "here", zones: ["a"]),
        ]
        let result = sets(all)
        #expect(result.cluster == [1, 3])
        #expect(result.local == [2, 3])
    }
    @Test func row116_aServingEndpointThatIsNotSelectedStaysInTheBlock() {
        let selection = select(
            [endpoint(1, ready), endpoint(2, draining), endpoint(3, [])].map { Candidate($0, port: 80, node: node) },
            node: node)
        #expect(selection.backends.map { $0.address.address.v4 & 255 } == [1, 2])
        #expect(selection.clusterRange == 0..<1)
    }

    private func slice(_ endpoints: [EndpointSlice.Endpoint], port: String = "p", number: UInt16 = 80) -> EndpointSlice
    {
        var slice = EndpointSlice(name: ObjectName("ns", "s"), serviceName: "s", addressType: .ipv4)
        slice.ports = [.init(name: port, port: number)]
        slice.endpoints = endpoints
        return slice
    }
    private func merged(_ slices: [EndpointSlice]) -> [Candidate] {
        mergedCandidates(slices, portName: "p", transport: .tcp, family: .ipv4, node: node)
    }

    @Test func row45_anAddressInTwoSlicesCountsOnce() {
        #expect(merged([slice([endpoint(1, ready)]), slice([endpoint(1, ready), endpoint(2, ready)])]).count == 2)
    }
    @Test func row46_notTerminatingBeatsTerminatingInEitherOrder() {
        let both = [slice([endpoint(1, draining)]), slice([endpoint(1, ready)])]
        for order in [both, both.reversed()] {
            #expect(merged(order).map(\.conditions) == [ready])
        }
    }
    @Test func row19_slicesJoinByPortNameAndEachBringsItsOwnNumber() {
        let all = merged([
            slice([endpoint(1, ready)], number: 81), slice([endpoint(2, ready)], number: 82),
            slice([endpoint(3, ready)], port: "q"),
        ])
        #expect(all.map(\.address.port) == [81, 82])
    }

    @Test func everyEndpointThatIsLeftOutHasItsReason() {
        let all = [
            endpoint(1, ready, on: "here", zones: ["a"]), endpoint(2, ready, zones: ["b"]), endpoint(3, [.serving]),
            endpoint(4, draining, on: "here"), endpoint(5, [.terminating]), endpoint(6, ready, on: nil, zones: ["a"]),
        ].map { Candidate($0, port: 80, node: node) }
        let rules = SelectionRules(all, node: node)
        #expect(
            all.map { rules.exclusionFromCluster($0)?.description } == [
                nil, "its hints mean it for other zones", "not ready", "terminating, and others are ready",
                "terminating, and others are ready", nil,
            ])
        #expect(
            all.map { rules.exclusionFromLocal($0)?.description } == [
                nil, "on node there", "on node there", "terminating, and others are ready", "on node there",
                "on no known node",
            ])
    }
}
