/// Tunnel or plaintext, and why: by who is in the mesh, for `agentctl explain` and `agentctl observe`.
import Addressing
import AdminAPI
import CertificateAuthority
import Cluster
import Compile
import DataplaneIR
import Observation
import RouteIR

/// What the mesh must know of a connection.
struct Passenger: Hashable {
    /// nil: no pod, or not known.
    var client: IPAddress?
    var transport: FlowTransport
    /// Its node's proxy carries it.
    var isProxied: Bool
    /// Dialled at an address of a node.
    var isNodePort = false
}

extension NodeController {
    /// nil: neither end is in the mesh.
    func passage(of passenger: Passenger, to server: SocketAddress) -> FlowPassage? {
        guard let view = mesh?.view, let domain = view.mesh else { return nil }
        let found = passenger.client.flatMap { view.pods[$0] }
        let isEnrolled = view.reach.enrolled.contains(server.address)
        guard found != nil || isEnrolled else { return nil }
        guard let client = found else { return FlowPassage(.plaintext, "the client is not in the mesh") }
        let isUnknown = view.reach.unknown.contains(server.address)
        guard isEnrolled || isUnknown && passenger.isProxied else {
            return FlowPassage(.plaintext, "\(serverName(server.address)) is not in the mesh")
        }
        guard passenger.transport == .known(.tcp) else {
            return FlowPassage(.plaintext, "\(passenger.transport.rawValue) is not tunnelled")
        }
        guard passenger.isProxied else {
            let reason =
                if passenger.client == server.address {
                    "a pod that dials itself"
                } else if server.port == MeshProgram.tunnelPort {
                    "the port where tunnels arrive is left alone"
                } else if passenger.isNodePort {
                    "node ports are not tunnelled"
                } else {
                    "it began before both were in the mesh"
                }
            return FlowPassage(.plaintext, reason)
        }
        guard !isUnknown else { return FlowPassage(.none, "the pod at \(server.address) is not known yet") }
        let name = "\(client.namespace)/\(client.name)"
        guard let own = domain.identity(of: client) else { return Self.nobody(name) }
        guard let other = identity(at: server.address, domain) else { return Self.nobody(serverName(server.address)) }
        return FlowPassage(
            .tunnel, "both are in the mesh", clientIdentity: own.description, serverIdentity: other.description)
    }

    /// Whichever of the endpoints is chosen.
    func passage(of passenger: Passenger, toOneOf servers: some Collection<SocketAddress>) -> FlowPassage? {
        let passages = servers.map { passage(of: passenger, to: $0) }
        let distinct = Set(passages)
        if distinct.count <= 1 { return passages.first ?? nil }
        let tunnels = passages.count { $0?.kind == .tunnel }
        let inTheClear = passages.count { $0 == nil || $0?.kind == .plaintext }
        let share = "\(tunnels) of \(passages.count) endpoints take tunnels"
        switch (tunnels, inTheClear) {
        case (0, 0): return FlowPassage(.none, share)
        case (0, _):
            let reasons = Set(passages.compactMap { $0?.reason })
            return FlowPassage(.plaintext, reasons.count == 1 ? reasons.first ?? share : share)
        case (_, 0):
            let client = passages.lazy.compactMap { $0?.clientIdentity }.first
            return FlowPassage(
                .tunnel, tunnels == passages.count ? "both are in the mesh" : share, clientIdentity: client)
        case (_, _): return FlowPassage(.either, share)
        }
    }

    private static func nobody(_ name: String) -> FlowPassage {
        FlowPassage(.none, "\(name) has no ServiceAccount, and so no identity")
    }

    private func owner(of address: IPAddress) -> Workload? {
        state.pods(at: address).lazy.compactMap { state.workloads[$0] }.last
    }
    private func serverName(_ address: IPAddress) -> String {
        owner(of: address).map { "\($0.namespace)/\($0.pod)" } ?? "\(address)"
    }
    private func identity(at address: IPAddress, _ domain: ProxyMesh) -> WorkloadIdentity? {
        owner(of: address).flatMap { domain.identity(of: $0) }
    }
}

// MARK: For `agentctl observe`

extension NodeController {
    /// `known`: those of services, which have many endpoints, and come again and again.
    func passage(of event: FlowEvent, _ known: inout [EventPassenger: FlowPassage?]) -> FlowPassage? {
        guard mesh?.view.mesh != nil, let backend = event.backend else { return nil }
        let passenger = Passenger(
            client: event.client == .node ? nil : event.source?.address, transport: event.protocol,
            isProxied: event.backendPod == .proxy, isNodePort: node.localAddresses.contains(event.dialled.address))
        guard passenger.isProxied else { return passage(of: passenger, to: backend) }
        guard let service = event.service else { return passage(of: passenger, to: event.dialled) }
        let key = EventPassenger(passenger: passenger, service: service, family: event.dialled.address.family)
        if let passage = known[key] { return passage }
        let id = ServicePortID(
            namespace: service.namespace, service: service.service, portName: service.portName, transport: .tcp,
            family: key.family)
        let passage = passage(of: passenger, toOneOf: compiler.programs[id]?.backends.map(\.address) ?? [])
        known[key] = .some(passage)
        return passage
    }
}

struct EventPassenger: Hashable {
    var passenger: Passenger
    var service: ServicePortName
    var family: AddressFamily
}

// MARK: For `agentctl explain`

extension NodeController {
    func explainPassage(of flow: Flow, _ verdict: Verdict, _ answer: inout Explanation) {
        var passenger = Passenger(
            client: flow.source, transport: .known(flow.transport), isProxied: false,
            isNodePort: node.localAddresses.contains(flow.destination.address))
        switch verdict {
        case .reject, .drop: return
        case .passthrough: answer.passage = passage(of: passenger, to: flow.destination)
        case .balance(_, let candidates, _): answer.passage = passage(of: passenger, toOneOf: candidates)
        case .proxy(nil, _):
            passenger.isProxied = true
            answer.passage = passage(of: passenger, to: flow.destination)
        case .proxy:
            passenger.isProxied = true
            answer.passage = passage(
                of: passenger,
                toOneOf: answer.endpoints.filter { $0.excluded == nil }.compactMap { SocketAddress($0.address) })
        }
        for index in answer.endpoints.indices {
            guard let address = SocketAddress(answer.endpoints[index].address) else { continue }
            answer.endpoints[index].passage = passage(of: passenger, to: address)
        }
    }
}
