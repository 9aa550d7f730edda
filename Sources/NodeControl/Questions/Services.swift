/// What `agentctl` asks of services and what the kernel should hold.
import Addressing
package import AdminAPI
package import Cluster
import Compile
import DataplaneIR
package import Observation
import Reconcile

extension NodeController {
    /// `dataplane`: its name.
    package func desiredDump(dataplane name: String) -> KernelDump {
        let programs = compiler.programs.values.sorted { $0.id < $1.id }
        return KernelDump(
            node: settings.nodeName, dataplane: name, generation: reconciler.status.applied,
            frontends: programs.flatMap { program in
                program.frontends.map { KernelDump.Frontend($0, of: program, withShortCuts: name == "nftables") }
            }, maps: [])
    }

    package func serviceList() -> ServiceList {
        let refused = reconciler.status.refused
        let services = compiler.programs.values.sorted { $0.id < $1.id }.map { program in
            var view = ServiceView(
                namespace: program.id.namespace, name: program.id.service, port: program.id.portName,
                protocol: program.id.transport.description, family: program.id.family.description)
            view.frontends = program.frontends.map { frontend in
                let address = frontend.address.map { SocketAddress($0, frontend.port).description }
                return "\(frontend.kind.rawValue) \(address ?? "*:\(frontend.port)")"
            }
            view.internalPolicy = program.internalPolicy.rawValue
            view.externalPolicy = program.externalPolicy.rawValue
            view.affinitySeconds = program.affinitySeconds
            view.clusterEndpoints = program.clusterRange.count
            view.localEndpoints = program.localRange.count
            view.refused = refused[program.id]
            return view
        }
        let findings = compiler.findings.values.flatMap { $0 }.map(\.description).sorted()
        return ServiceList(services: services, findings: findings)
    }

    package func endpointList(_ name: ObjectName) -> EndpointList {
        let programs = compiler.programs.values.filter {
            $0.id.namespace == name.namespace && $0.id.service == name.name
        }
        var views: [EndpointView] = []
        for slice in state.slices(of: name) {
            for port in slice.ports {
                let program = programs.first {
                    $0.id.portName == port.name && $0.id.transport == port.transport
                        && $0.id.family == slice.addressType.family
                }
                for endpoint in slice.endpoints {
                    views.append(view(endpoint, port, slice, program))
                }
            }
        }
        return EndpointList(service: name.description, exists: state.services[name] != nil, endpoints: views)
    }

    private func view(
        _ endpoint: EndpointSlice.Endpoint, _ port: EndpointSlice.Port, _ slice: EndpointSlice,
        _ program: ServiceProgram?
    ) -> EndpointView {
        let address = SocketAddress(endpoint.address, port.port)
        var view = EndpointView(
            slice: slice.name.name, port: port.name, protocol: port.transport.description,
            address: address.description)
        view.ready = endpoint.conditions.contains(.ready)
        view.serving = endpoint.conditions.contains(.serving)
        view.terminating = endpoint.conditions.contains(.terminating)
        view.node = endpoint.nodeName
        view.zone = endpoint.zone
        view.local = endpoint.nodeName == settings.nodeName
        for policy in [TrafficPolicy.cluster, .local] {
            guard let program, program.backends[program.range(for: policy)].contains(where: { $0.address == address })
            else { continue }
            view.usedFor.append(policy.rawValue)
        }
        return view
    }
}
