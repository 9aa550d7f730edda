/// Answers of the admin socket: what the controller knows, and what the kernel must be asked for.
import AdminAPI
import AdminServer
import Daemon
import DataplaneIR
import LinuxDataplane
import Logging
import NodeControl
import Observation
import Reconcile

extension NodeAgent {
    func answer(_ request: AdminRequest) {
        switch request.question {
        case .status:
            publish()
            refreshDetails()
            request.reply(jsonResponse(environment.board.status))
        case .services: request.reply(jsonResponse(controller.serviceList()))
        case .endpoints(let name): request.reply(jsonResponse(controller.endpointList(name)))
        case .capacity:
            reply(request) { () throws(DataplaneError) in CapacityReport(maps: try dataplane.writer.capacity()) }
        case .desired: request.reply(jsonResponse(controller.desiredDump(dataplane: dataplane.writer.name)))
        case .backends:
            request.reply(jsonResponse(controller.backendReport(cgroup: DataplaneFactory.cgroup(configuration))))
        case .verify(let repair):
            reply(request) { () throws(DataplaneError) in try verifyNow(repair: repair) }
        case .explain(let question):
            do throws(UnclearQuestion) {
                request.reply(jsonResponse(try controller.explain(question, towards: environment.interfaceTowards)))
            } catch { request.reply(failureResponse(error.description)) }
        case .routes: request.reply(jsonResponse(controller.routeList()))
        case .mesh: request.reply(jsonResponse(controller.meshList(problems: environment.meshProblems())))
        case .policy:
            let none = "this agent takes no part in a mesh; start it with --ca (docs/mesh.md)"
            request.reply(controller.policyList.map { jsonResponse($0) } ?? failureResponse(none))
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

    private func askProxy(_ what: String, _ request: AdminRequest) {
        guard let link = environment.proxy, !proxies.isEmpty else {
            return request.reply(failureResponse("no L7 proxy is connected; see agentctl proxy status", status: 503))
        }
        link.ask(what) { answer in
            guard let answer else {
                return request.reply(failureResponse("the L7 proxy did not answer", status: 504))
            }
            request.reply(HTTPResponse(contentType: "application/json", body: answer))
        }
    }

    /// Whoever looks at flows asks again and again, and wants names.
    func named(_ seen: SeenTraffic) -> SeenTraffic {
        take(.observed)
        return switch seen {
        case .events(let events): .events(controller.named(events))
        case .totals(let report): .totals(controller.named(report))
        }
    }

    func count(_ result: Result<TrafficReport, DataplaneError>) {
        let before = trafficWarnings
        switch result {
        case .success(let report):
            trafficWarnings = []
            serviceTotals.add(controller.named(report))
            environment.serviceMetrics?.show(serviceTotals)
        case .failure(let error):
            trafficWarnings = ["--service-metrics: traffic is not counted: \(error.description)"]
        }
        guard trafficWarnings != before else { return }
        for warning in trafficWarnings { log.warning("\(warning)") }
        publish()
    }
}
