/// Names for what was seen of live traffic. Kept from one question to the next: whoever observes asks several times a
/// second.
import Addressing
import Cluster
import Compile
import DataplaneIR
package import Observation
import Reconcile

/// Services by frontend; pods are looked up by their addresses.
struct FlowNames: Sendable {
    fileprivate struct Dialled: Hashable, Sendable {
        /// nil: any address of the node.
        let address: IPAddress?
        let port: UInt16
        let transport: FlowTransport
    }
    fileprivate var services: [Dialled: ServicePortName] = [:]
    fileprivate var generation: UInt64?

    fileprivate func service(at dialled: SocketAddress, _ transport: FlowTransport) -> ServicePortName? {
        services[Dialled(address: dialled.address, port: dialled.port, transport: transport)]
            ?? services[Dialled(address: nil, port: dialled.port, transport: transport)]
    }
}

extension NodeController {
    package mutating func named(_ events: FlowEvents) -> FlowEvents {
        refreshFlowNames(needsServices: events.events.contains { $0.service == nil })
        var events = events
        for index in events.events.indices {
            let event = events.events[index]
            if event.client == nil { events.events[index].client = event.source.flatMap { name(of: $0.address) } }
            events.events[index].backendPod = event.backend.flatMap(backendName)
            if event.service == nil {
                events.events[index].service = flowNames.service(at: event.dialled, event.protocol)
            }
        }
        return events
    }

    package mutating func named(_ report: TrafficReport) -> TrafficReport {
        refreshFlowNames(needsServices: report.backends.contains { $0.service == nil })
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

    private mutating func refreshFlowNames(needsServices: Bool) {
        guard needsServices, flowNames.generation != reconciler.status.applied else { return }
        flowNames.generation = reconciler.status.applied
        flowNames.services = [:]
        for program in compiler.programs.values + settings.ownPrograms {
            for frontend in program.frontends {
                let key = FlowNames.Dialled(
                    address: frontend.address, port: frontend.port, transport: .known(program.id.transport))
                flowNames.services[key] = ServicePortName(program.id)
            }
        }
    }
}
