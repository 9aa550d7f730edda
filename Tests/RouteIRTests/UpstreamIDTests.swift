/// The name of an upstream: what it is told apart by, and what of it travels.
import Testing

import RouteIR

@Suite struct UpstreamIDTests {
    private let service = RoutedServiceID(namespace: "shop", name: "cart", port: 80)

    @Test func eachPartTellsTwoApart() {
        let other = RoutedServiceID(namespace: "shop", name: "cart", port: 81)
        let all = [
            UpstreamID(service), UpstreamID(other), UpstreamID(service, subset: "v1"),
            UpstreamID(service, subset: "v2"),
            UpstreamID(service, host: "v1"), UpstreamID(service, cluster: "v1"),
        ]
        #expect(Set(all).count == all.count)
        for id in all {
            let same = UpstreamID(id.service, subset: id.subset, host: id.host, cluster: id.cluster)
            #expect(same == id && same.hashValue == id.hashValue && !(same < id) && !(id < same))
            #expect(all.filter { $0 < id }.count + all.filter { id < $0 }.count == all.count - 1)
        }
    }

    @Test func itIsShownAsWhatItIsNarrowedTo() {
        #expect(UpstreamID(service).description == "shop/cart:80")
        let narrow = UpstreamID(service, subset: "v2", cluster: "east")
        #expect(narrow.description == "shop/cart:80, subset v2, cluster east")
    }
}
