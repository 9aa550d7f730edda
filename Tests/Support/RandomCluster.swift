/// Random services, slices and edits, dense enough that addresses collide, names repeat and every policy meets every
/// endpoint state.
package import Addressing
package import Cluster

package struct RandomCluster {
    package static let nodeName = "node-a"
    package static let nodeNames = ["node-a", "node-b", "node-c"]
    package static let zones = ["zone-1", "zone-2"]

    package struct Options: Sendable {
        package var services = 6
        package var families: [AddressFamily] = AddressFamily.allCases
        package var transports: [TransportProtocol] = [.tcp, .udp]
        /// Node ports, load-balancer addresses, external IPs, policies and affinity as well as cluster IPs.
        package var external = true
        package var affinity = true
        /// Routes come and go, for the L7 proxy.
        package var routed = false
        /// Endpoint addresses to choose from, by family; made up when empty.
        package var endpoints: [AddressFamily: [IPAddress]] = [:]
        /// Where those endpoints are; any node when empty.
        package var nodeOf: [IPAddress: String] = [:]
        package var sourceRanges: [IPPrefix] = [
            IPPrefix(IPAddress(v4: 0x0a01_0000), length: 24), IPPrefix(IPAddress(high: 0, low: 0), length: 8),
        ].compactMap { $0 }
        /// The ports backends listen on.
        package var backendPorts: [UInt16] = [8080, 9090]

        package init() {}
    }

    package var options: Options
    package private(set) var services: [ObjectName: Service] = [:]
    package private(set) var slices: [ObjectName: EndpointSlice] = [:]
    private var clock: Int64 = 1000

    package init(options: Options = Options()) { self.options = options }

    /// One edit of one object: made, changed or removed.
    package mutating func edit(using random: inout some RandomNumberGenerator) -> Change {
        let number = Int.random(in: 0..<options.services, using: &random)
        let name = ObjectName("ns", "svc-\(number)")
        if options.routed, random.oneIn(6) {
            var route = Route(kind: .http, name: name)
            route.parents = [.init(service: name)]
            return random.oneIn(3) ? .delete(route.id) : .upsert(.route(route))
        }
        if random.oneIn(3) {
            if services[name] != nil, random.oneIn(5) {
                services[name] = nil
                return .delete(ObjectID(.service, name))
            }
            let service = makeService(name, number, using: &random)
            services[name] = service
            return .upsert(.service(service))
        }
        let sliceName = ObjectName("ns", "svc-\(number)-\(Int.random(in: 0..<3, using: &random))")
        if slices[sliceName] != nil, random.oneIn(6) {
            slices[sliceName] = nil
            return .delete(ObjectID(.endpointSlice, sliceName))
        }
        let slice = makeSlice(sliceName, of: name, using: &random)
        slices[sliceName] = slice
        return .upsert(.endpointSlice(slice))
    }

    private mutating func makeService(
        _ name: ObjectName, _ number: Int, using random: inout some RandomNumberGenerator
    ) -> Service {
        var service = Service(name: name)
        clock += 1
        service.creationTime = services[name]?.creationTime ?? (random.oneIn(3) ? 500 : clock)
        // Few addresses, so that some services ask for the same one.
        let address = { (family: AddressFamily, n: Int) in
            family == .ipv4
                ? IPAddress(v4: 0x0a60_0000 + UInt32(n)) : IPAddress(high: 0xfd00_0096 << 32, low: UInt64(n))
        }
        let shared = random.oneIn(8) ? 0 : number
        service.clusterIPs = options.families.filter { _ in !random.oneIn(6) }.map { address($0, 1 + shared) }
        service.ports = options.transports.filter { _ in !random.oneIn(4) }.map { transport in
            var port = Service.Port(name: "\(transport)".lowercased(), transport: transport, port: 80)
            if options.routed, transport == .tcp { port.appProtocol = "http" }
            if options.external, random.oneIn(2) { port.nodePort = 30000 + UInt16(random.oneIn(8) ? 0 : number) }
            return port
        }
        if random.oneIn(12) { service.type = .externalName }
        guard options.external else { return service }
        if random.oneIn(2) {
            service.type = .loadBalancer
            service.ingress = options.families.map {
                Service.Ingress(address($0, 1000 + shared), isProxyMode: random.oneIn(8))
            }
            if random.oneIn(3) {
                service.sourceRanges = options.sourceRanges.filter { _ in !random.oneIn(3) }
            }
        }
        if random.oneIn(4) { service.externalIPs = options.families.map { address($0, 2000 + shared) } }
        if random.oneIn(3) { service.internalTrafficPolicy = .local }
        if random.oneIn(3) { service.externalTrafficPolicy = .local }
        if options.affinity, random.oneIn(4) { service.affinitySeconds = 10800 }
        return service
    }

    private func makeSlice(
        _ name: ObjectName, of service: ObjectName, using random: inout some RandomNumberGenerator
    ) -> EndpointSlice {
        let family = options.families.randomElement(using: &random) ?? .ipv4
        var slice = EndpointSlice(
            name: name, serviceName: random.oneIn(15) ? nil : service.name, addressType: family == .ipv4 ? .ipv4 : .ipv6
        )
        slice.ports = options.transports.map { transport in
            EndpointSlice.Port(
                name: "\(transport)".lowercased(), transport: transport,
                port: options.backendPorts.randomElement(using: &random) ?? 8080)
        }
        let made = (1...12).map {
            family == .ipv4 ? IPAddress(v4: 0x0a01_0000 + UInt32($0)) : IPAddress(high: 0xfd01 << 48, low: UInt64($0))
        }
        let pool = options.endpoints[family] ?? made
        slice.endpoints = pool.shuffled(using: &random).prefix(Int.random(in: 0...5, using: &random)).map {
            makeEndpoint($0, using: &random)
        }
        return slice
    }

    private func makeEndpoint(_ address: IPAddress, using random: inout some RandomNumberGenerator)
        -> EndpointSlice.Endpoint
    {
        let hints = random.oneIn(3)
        return EndpointSlice.Endpoint(
            address,
            conditions: .init(
                ready: !random.oneIn(4), serving: !random.oneIn(4), terminating: random.oneIn(4)),
            nodeName: options.nodeOf[address] ?? Self.nodeNames.randomElement(using: &random), zone: nil,
            forZones: hints ? [Self.zones.randomElement(using: &random) ?? ""] : nil,
            forNodes: hints && random.oneIn(2) ? [Self.nodeNames.randomElement(using: &random) ?? ""] : nil)
    }
}

extension RandomNumberGenerator {
    /// True in about one of `n` calls.
    package mutating func oneIn(_ n: Int) -> Bool { Int.random(in: 0..<n, using: &self) == 0 }
}
