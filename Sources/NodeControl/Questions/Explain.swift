/// `agentctl explain`: one flow through the interpreter of what is in force.
package import Addressing
package import AdminAPI
import Cluster
import Compile
import DataplaneIR
import Reconcile

package struct FlowQuestion: Sendable {
    /// An address, or NAMESPACE/NAME of a pod.
    package var from: String
    package var to: SocketAddress
    package var transport = "TCP"
    package var interface: String?
    /// What is sent over it.
    package var request: ExplainedRequest?

    package init(
        from: String, to: SocketAddress, transport: String = "TCP", interface: String? = nil,
        request: ExplainedRequest? = nil
    ) {
        (self.from, self.to, self.transport) = (from, to, transport)
        (self.interface, self.request) = (interface, request)
    }
}

/// A question that has no answer, and why.
package struct UnclearQuestion: Error, Equatable, CustomStringConvertible {
    package let description: String
}

extension NodeController {
    /// `towards`: the interface that packets from an address come in by, as the kernel says; nil: there is no way back.
    package func explain(
        _ question: FlowQuestion, towards: (IPAddress) -> String?
    ) throws(UnclearQuestion) -> Explanation {
        guard let transport = TransportProtocol(question.transport) else {
            throw UnclearQuestion(description: "protocol \"\(question.transport)\" is not TCP, UDP or SCTP")
        }
        guard let from = address(of: question.from, family: question.to.address.family) else {
            throw UnclearQuestion(
                description:
                    "\"\(question.from)\" is neither an address nor the NAMESPACE/NAME of a pod the agent knows "
                    + "with an \(question.to.address.family) address; pass the pod's IP")
        }
        let isNode = question.interface == nil && node.localAddresses.contains(from)
        let interface = isNode ? nil : question.interface ?? towards(from) ?? ""
        let flow = Flow(
            source: from, destination: question.to, transport: transport,
            origin: interface.map { .interface($0) } ?? .node)
        let program = DataplaneProgram(node: node, services: compiler.programs)
        let explained = Interpreter(program).explain(flow)
        var answer = answer(flow, explained)
        explainPassage(of: flow, explained.verdict, &answer)
        answer.interface = interface
        if case .proxy = explained.verdict {
            if let decision = clientDecision(from, to: question.to) { answer.decisions.append(decision) }
            if let request = question.request { answer.routing = routing(of: request, from: from, to: question.to) }
        }
        return answer
    }

    private func address(of from: String, family: AddressFamily) -> IPAddress? {
        if let address = IPAddress(from) { return address }
        let parts = from.split(separator: "/").map(String.init)
        guard parts.count <= 2, let name = parts.last else { return nil }
        let pod = ObjectName(parts.count == 2 ? parts[0] : "default", name)
        return state.podAddresses[pod]?.first { $0.family == family }
    }

    private func answer(_ flow: Flow, _ explained: Interpreter.Explanation) -> Explanation {
        let to = "\(flow.destination)/\(flow.transport)"
        var answer = Explanation(verdict: "", from: "\(flow.source)", to: to)
        switch explained.verdict {
        case .passthrough: answer.verdict = "passthrough"
        case .reject: answer.verdict = "reject"
        case .drop: answer.verdict = "drop"
        case .proxy(_, let listener):
            answer.verdict = "proxy"
            answer.candidates = [listener.description]
        case .balance(_, let candidates, let source):
            answer.verdict = "balance"
            answer.candidates = candidates.map(\.description)
            answer.source =
                switch source {
                case .masquerade: "masqueraded"
                case .keepExceptHairpin(let local):
                    local.contains(flow.source) ? "kept, masqueraded if the client itself is chosen" : "kept"
                }
        }
        answer.decisions = explained.decisions.map {
            .init(source: $0.source, outcome: $0.outcome, object: object(of: $0, explained.service))
        }
        answer.generation = reconciler.status.applied
        guard let service = explained.service else {
            if let reason = waiting(flow, for: flow.destination.address) {
                answer.decisions.append(.init(source: "Pod", outcome: "\(flow.destination): \(reason)"))
            }
            return answer
        }
        answer.service = service.displayName
        let policy = explained.set ?? .cluster
        let isRouted = if case .proxy = explained.verdict { true } else { false }
        answer.endpoints = compiler.explainEndpoints(of: service, under: policy, from: state).map {
            let refusal =
                isRouted ? routes.refusal(of: $0.address) ?? waiting(flow, for: $0.address.address, in: $0.slices) : nil
            return .init(
                address: "\($0.address)", excluded: refusal ?? $0.exclusion?.description,
                slices: $0.slices.map(\.description))
        }
        if let reason = reconciler.status.refused[service] {
            answer.decisions.append(.init(source: "kernel", outcome: "this version is not in force: \(reason)"))
        }
        return answer
    }

    /// Why what an enrolled pod sends to an endpoint that `slices` name, or dials, waits; nil: it does not.
    private func waiting(_ flow: Flow, for address: IPAddress, in slices: [ObjectName]? = nil) -> String? {
        guard let view = mesh?.view, view.pods[flow.source] != nil, view.reach.unknown.contains(address) else {
            return nil
        }
        let endpoints = slices?.lazy.compactMap { state.slices[$0] }.flatMap(\.endpoints)
        let mayBeEnrolled =
            endpoints?.contains { $0.address == address && $0.conditions.contains(.ofPod) }
            ?? node.mesh.enrolled.contains(address)
        guard mayBeEnrolled else { return nil }
        return "its Pod is not known and may be in the mesh: a connection waits for it, and is refused after 2 s"
    }

    private func object(of decision: Interpreter.Decision, _ id: ServicePortID?) -> String? {
        guard let id else { return nil }
        let service = ObjectName(id.namespace, id.service)
        switch decision.source {
        case Interpreter.enrolment, Interpreter.door: return nil
        case "endpoints": return "EndpointSlices of \(service)"
        case "HTTPRoute, GRPCRoute":
            return state.routes(of: service).map { "\($0.kind == .grpc ? "GRPCRoute" : "HTTPRoute") \($0.name)" }
                .joined(separator: ", ")
        case let source: return source.hasPrefix("--") ? "heddle-agent" : "Service \(service)"
        }
    }
}
