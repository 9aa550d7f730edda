/// Answers of the admin socket that need what only the actor knows.
import Addressing
import AdminAPI
import AdminServer
import Cluster
import Compile
import DataplaneIR
import Observation
import Reconcile

extension NodeAgent {
    func answer(_ request: AdminRequest) {
        switch request.question {
        case .status:
            refreshDetails()
            request.reply(jsonResponse(environment.board.status))
        case .services: request.reply(jsonResponse(serviceList()))
        case .endpoints(let name): request.reply(jsonResponse(endpointList(name)))
        case .capacity:
            reply(request) { () throws(DataplaneError) in CapacityReport(maps: try dataplane.writer.capacity()) }
        case .desired: request.reply(jsonResponse(desiredDump()))
        case .backends: request.reply(jsonResponse(backendReport()))
        case .verify(let repair):
            reply(request) { () throws(DataplaneError) in try verifyNow(repair: repair) }
        case .explain(let flow): request.reply(explain(flow))
        case .routes: request.reply(jsonResponse(routeList()))
        case .observed(let events):
            noteObserver()
            request.reply(jsonResponse(named(events)))
        case .nameTraffic(let report):
            noteObserver()
            request.reply(jsonResponse(named(report)))
        case .observe, .traffic: preconditionFailure("not a question to the actor")
        case .proxy(let what): askProxy(what, request)
        }
    }

    private func reply<Answer: Encodable>(_ request: AdminRequest, _ body: () throws(DataplaneError) -> Answer) {
        do throws(DataplaneError) {
            request.reply(jsonResponse(try body()))
        } catch {
            request.reply(failureResponse(error.description, status: 500))
        }
    }

    private func desiredDump() -> KernelDump {
        let programs = compiler.programs.values.sorted { $0.id < $1.id }
        let name = dataplane.writer.name
        return KernelDump(
            node: configuration.nodeName, dataplane: name, generation: reconciler.status.applied,
            frontends: programs.flatMap { program in
                program.frontends.map { KernelDump.Frontend($0, of: program, withShortCuts: name == "nftables") }
            }, maps: [])
    }

    private func serviceList() -> ServiceList {
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

    private func endpointList(_ name: ObjectName) -> EndpointList {
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
        view.local = endpoint.nodeName == configuration.nodeName
        for policy in [TrafficPolicy.cluster, .local] {
            guard let program, program.backends[program.range(for: policy)].contains(where: { $0.address == address })
            else { continue }
            view.usedFor.append(policy.rawValue)
        }
        return view
    }
}
