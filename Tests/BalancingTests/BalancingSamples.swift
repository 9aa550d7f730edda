/// Clusters for these tests, and the test of a distribution.
import Addressing
import Balancing
import RouteIR

func endpoint(_ number: Int, weight: UInt32 = 1, zone: String? = nil, draining: Bool = false) -> Endpoint {
    let address = SocketAddress(IPAddress(v4: 0x0a01_0000 + UInt32(number)), 8080)
    return Endpoint(address, weight: weight, zone: zone, isDraining: draining)
}

func upstream(_ endpoints: [Endpoint], _ change: (inout UpstreamPolicy) -> Void = { _ in }) -> Upstream {
    var upstream = Upstream(
        id: UpstreamID(RoutedServiceID(namespace: "shop", name: "cart", port: 80)), endpoints: endpoints)
    change(&upstream.policy)
    return upstream
}

extension Moment {
    static func at(_ seconds: Double) -> Moment { .start + .seconds(seconds) }
}

/// Pearson's statistic of counts against expected shares.
func chiSquare(_ counts: [Int], shares: [Double]) -> Double {
    let total = Double(counts.reduce(0, +))
    let sum = shares.reduce(0, +)
    return zip(counts, shares).reduce(0) { result, pair in
        let expected = total * pair.1 / sum
        return result + (Double(pair.0) - expected) * (Double(pair.0) - expected) / expected
    }
}
