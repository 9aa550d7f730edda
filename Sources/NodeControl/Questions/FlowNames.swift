/// Names for what was seen of live traffic. Made when they are asked for first, and from then on kept up to date with
/// what changes, as long as somebody observes: whoever does asks several times a second.
import Addressing
import Cluster
import Compile
import DataplaneIR
package import Observation
import Reconcile

/// Services by frontend; pods are looked up by their addresses.
struct FlowNames: Sendable {
    private struct Dialled: Hashable, Sendable {
        /// nil: any address of the node.
        let address: IPAddress?
        let port: UInt16
        let transport: FlowTransport

        init(_ frontend: Frontend, _ id: ServicePortID) {
            (address, port, transport) = (frontend.address, frontend.port, .known(id.transport))
        }
        init(_ address: IPAddress?, _ port: UInt16, _ transport: FlowTransport) {
            (self.address, self.port, self.transport) = (address, port, transport)
        }
    }
    private var services: [Dialled: ServicePortName] = [:]
    private var isKept = false
    /// Programs whose frontends were looked at: a change must cost the change (tested).
    private(set) var looks = 0

    fileprivate func service(at dialled: SocketAddress, _ transport: FlowTransport) -> ServicePortName? {
        services[Dialled(dialled.address, dialled.port, transport)] ?? services[Dialled(nil, dialled.port, transport)]
    }

    fileprivate mutating func keep(_ programs: some Sequence<ServiceProgram>, _ own: [ServiceProgram]) {
        guard !isKept else { return }
        isKept = true
        for program in programs { add(program) }
        for program in own { add(program) }
    }

    /// What they replace goes first: a frontend may pass from one service to another.
    mutating func update(_ changes: ProgramChanges, programs: [ServicePortID: ServiceProgram]) {
        guard isKept else { return }
        for old in changes.old.values { remove(old) }
        for id in changes.upserts { if let new = programs[id] { add(new) } }
    }

    mutating func forget() { self = FlowNames() }

    private mutating func add(_ program: ServiceProgram) {
        looks += 1
        for frontend in program.frontends { services[Dialled(frontend, program.id)] = ServicePortName(program.id) }
    }
    private mutating func remove(_ program: ServiceProgram) {
        looks += 1
        for frontend in program.frontends { services[Dialled(frontend, program.id)] = nil }
    }
}

extension NodeController {
    package mutating func named(_ events: FlowEvents) -> FlowEvents {
        if events.events.contains(where: { $0.service == nil }) { keepFlowNames() }
        var events = events
        var passages: [EventPassenger: FlowPassage?] = [:]
        for index in events.events.indices {
            let event = events.events[index]
            if event.client == nil { events.events[index].client = event.source.flatMap { name(of: $0.address) } }
            events.events[index].backendPod = event.backend.flatMap(backendName)
            if event.service == nil {
                events.events[index].service = flowNames.service(at: event.dialled, event.protocol)
            }
            events.events[index].passage = passage(of: events.events[index], &passages)
        }
        return events
    }

    package mutating func named(_ report: TrafficReport) -> TrafficReport {
        if report.backends.contains(where: { $0.service == nil }) { keepFlowNames() }
        var report = report
        for index in report.backends.indices {
            if let dialled = report.backends[index].dialled {
                report.backends[index].service = flowNames.service(at: dialled, report.backends[index].protocol)
            }
            report.backends[index].backendPod = report.backends[index].backend.flatMap(backendName)
        }
        return report
    }

    private func backendName(_ backend: SocketAddress) -> FlowEnd? {
        node.proxyListeners.contains(backend) ? .proxy : pod(at: backend.address)
    }
    /// Pods on the network of their node cannot be told apart by it.
    private func pod(at address: IPAddress) -> FlowEnd? {
        state.pods(at: address).last { state.workloads[$0] != nil }.map {
            .pod(namespace: $0.namespace, name: $0.name)
        }
    }
    private func name(of address: IPAddress) -> FlowEnd? {
        pod(at: address) ?? (node.localAddresses.contains(address) ? .node : nil)
    }

    private mutating func keepFlowNames() { flowNames.keep(compiler.programs.values, settings.ownPrograms) }
}
