/// A service of the agent's own, in the kernel like any other: by connecting to it the agent proves that connections to
/// services are translated. Its addresses are loopback ones: no Service may have such an address, so it collides with
/// none; nothing ever leaves the machine, whatever is broken; and no route is needed.
package import Addressing

package enum Canary {
    /// Where it is dialled, and where the agent listens. An external address, not a cluster IP: all other ports of a
    /// cluster IP are refused.
    package static func addresses(_ family: AddressFamily) -> (dialled: SocketAddress, backend: SocketAddress) {
        switch family {
        case .ipv4:
            (SocketAddress(IPAddress(v4: 0x7f7f_7f7f), 1), SocketAddress(IPAddress(v4: 0x7f7f_7f80), 10261))
        case .ipv6:
            (SocketAddress(IPAddress(high: 0, low: 1), 1), SocketAddress(IPAddress(high: 0, low: 1), 10261))
        }
    }

    package static func isDialled(_ address: SocketAddress) -> Bool {
        address == addresses(address.address.family).dialled
    }

    package static func program(_ family: AddressFamily) -> ServiceProgram {
        let addresses = addresses(family)
        return ServiceProgram(
            id: ServicePortID(
                namespace: ServicePortID.ownNamespace, service: "canary", portName: "", transport: .tcp,
                family: family),
            frontends: [Frontend(.externalIP, addresses.dialled.address, addresses.dialled.port)],
            backends: [Backend(addresses.backend, state: [.serving, .local])], clusterRange: 0..<1, localRange: 0..<1)
    }
    package static var programs: [ServiceProgram] { AddressFamily.allCases.map(program) }
}

extension ServicePortID {
    /// No namespace of Kubernetes can have this name.
    package static let ownNamespace = "@heddle"
}
