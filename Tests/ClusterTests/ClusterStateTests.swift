/// What each change makes dirty, and nothing more.
import Addressing
import Cluster
import Testing

@Suite struct ClusterStateTests {
    private let serviceName = ObjectName("ns", "web")
    private var service: Service {
        var service = Service(name: serviceName)
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        return service
    }
    private func slice(_ name: String, of service: String?, address: UInt32 = 1) -> EndpointSlice {
        var slice = EndpointSlice(name: ObjectName("ns", name), serviceName: service, addressType: .ipv4)
        slice.endpoints = [.init(IPAddress(v4: address))]
        return slice
    }

    @Test func anEqualObjectChangesNothing() {
        var state = ClusterState()
        #expect(state.apply(.upsert(.service(service))).services == [serviceName])
        #expect(state.apply(.upsert(.service(service))).isEmpty)
        #expect(state.apply(.upsert(.endpointSlice(slice("a", of: "web")))).services == [serviceName])
        #expect(state.apply(.upsert(.endpointSlice(slice("a", of: "web")))).isEmpty)
    }

    @Test func row44_aSliceWithoutServiceTouchesNobody() {
        var state = ClusterState()
        #expect(state.apply(.upsert(.endpointSlice(slice("a", of: nil)))).isEmpty)
        #expect(state.apply(.upsert(.endpointSlice(slice("b", of: "")))).isEmpty)
    }

    /// A snapshot is saved after what touched something, and is of the state all the same.
    @Test func whatTouchesNothingIsInNoSnapshot() {
        var state = ClusterState()
        var route = Route(kind: .http, name: ObjectName("ns", "r"))
        for change in [ClusterObject.endpointSlice(slice("a", of: nil)), .route(route)] {
            #expect(state.apply(.upsert(change)).isEmpty && state.objects.isEmpty)
        }
        route.parents = [Route.Parent(service: serviceName)]
        for change in [ClusterObject.endpointSlice(slice("a", of: "web")), .route(route)] {
            #expect(state.apply(.upsert(change)).services == [serviceName] && state.objects.contains(change))
        }
        route.parents = []
        for change in [ClusterObject.endpointSlice(slice("a", of: nil)), .route(route)] {
            #expect(state.apply(.upsert(change)).services == [serviceName] && !state.objects.contains(change))
        }
    }

    @Test func row64_slicesMayComeBeforeTheirServiceAndOutliveIt() {
        var state = ClusterState()
        #expect(state.apply(.upsert(.endpointSlice(slice("a", of: "web")))).services == [serviceName])
        #expect(state.apply(.upsert(.service(service))).services == [serviceName])
        #expect(state.apply(.delete(ObjectID(.service, serviceName))).services == [serviceName])
        #expect(state.slices(of: serviceName).count == 1)
        #expect(state.apply(.delete(ObjectID(.endpointSlice, ObjectName("ns", "a")))).services == [serviceName])
        #expect(state.knownServices.isEmpty)
    }

    @Test func aSliceThatMovesToAnotherServiceTouchesBoth() {
        var state = ClusterState()
        _ = state.apply(.upsert(.endpointSlice(slice("a", of: "web"))))
        let dirty = state.apply(.upsert(.endpointSlice(slice("a", of: "db"))))
        #expect(dirty.services == [serviceName, ObjectName("ns", "db")])
        #expect(state.slices(of: serviceName).isEmpty)
    }

    @Test func slicesComeInTheOrderOfTheirNames() {
        var state = ClusterState()
        for name in ["c", "a", "b"] { _ = state.apply(.upsert(.endpointSlice(slice(name, of: "web")))) }
        #expect(state.slices(of: serviceName).map(\.name.name) == ["a", "b", "c"])
    }

    @Test func nodesAndServiceCIDRs() {
        var state = ClusterState()
        #expect(state.apply(.upsert(.node(Node(name: "n")))).nodes == ["n"])
        #expect(state.apply(.upsert(.node(Node(name: "n")))).isEmpty)
        let cidr = ServiceCIDR(name: "default", cidrs: [IPPrefix("10.96.0.0/16")].compactMap { $0 })
        #expect(state.apply(.upsert(.serviceCIDR(cidr))).serviceCIDRs)
        #expect(state.serviceCIDRRanges == cidr.cidrs)
        #expect(state.apply(.delete(ObjectID(.serviceCIDR, ObjectName("", "default")))).serviceCIDRs)
        #expect(state.apply(.delete(ObjectID(.node, ObjectName("", "n")))).nodes == ["n"])
    }

    @Test func deletingWhatIsNotThereChangesNothing() {
        var state = ClusterState()
        for kind in ObjectKind.allCases { #expect(state.apply(.delete(ObjectID(kind, ObjectName("ns", "x")))).isEmpty) }
    }
}
