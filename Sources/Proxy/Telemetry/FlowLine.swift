/// One line of the access log about a relayed connection, when it has ended, in the form of Istio's ambient mode, or as
/// JSON with the same names.
import Addressing
import Balancing
import CertificateAuthority
import Glibc
import RouteIR
import Telemetry

/// The line with its newline.
func flowLine(_ flow: FlowRecord, _ format: AccessLog.Format, _ node: ProxyNode, ended: timespec) -> [UInt8] {
    var writer = LineWriter()
    let fields = fields(flow, node)
    switch format {
    case .text:
        writer.plain("[")
        writer.time(ended)
        writer.plain(flow.isOpen ? "] access connection complete" : "] access connection failed")
        for (name, value, isQuoted) in fields {
            writer.string(isQuoted ? " \(name)=\(jsonString(value))" : " \(name)=\(value)")
        }
        writer.plain("\n")
    case .json:
        writer.plain("{\"time\":\"")
        writer.time(ended)
        writer.plain("\",\"scope\":\"access\",\"message\":\"connection ")
        writer.plain(flow.isOpen ? "complete\"" : "failed\"")
        for (name, value, isQuoted) in fields {
            let isNumber = isQuoted == false && value.allSatisfy(\.isNumber)
            writer.string(",\"\(name)\":\(isNumber ? value : jsonString(value))")
        }
        writer.plain("}\n")
    }
    return writer.bytes
}

private func fields(_ flow: FlowRecord, _ node: ProxyNode) -> [(name: String, value: String, isQuoted: Bool)] {
    var fields: [(name: String, value: String, isQuoted: Bool)] = []
    let add = { (name: String, value: String?, isQuoted: Bool) in
        if let value { fields.append((name, value, isQuoted)) }
    }
    let side = { (side: String, workload: Workload?, identity: WorkloadIdentity?) in
        add("\(side).workload", workload?.pod, true)
        add("\(side).namespace", workload?.namespace ?? identity?.account.namespace, true)
        add("\(side).identity", identity?.description, true)
        add("\(side).cluster", workload == nil ? nil : node.clusterName, true)
    }
    add("src.addr", flow.client.description, false)
    side("src", flow.source?.workload, flow.sourceIdentity)
    let server = flow.direction == .inbound ? flow.dialled : flow.server ?? flow.dialled
    add("dst.addr", (flow.tunnel ?? server).description, false)
    add("dst.hbone_addr", flow.tunnel == nil ? nil : server.description, false)
    add("dst.service", flow.service?.service.hostname ?? flow.serviceHost, true)
    side("dst", flow.destination?.workload, flow.destinationIdentity)
    add("direction", flow.direction.rawValue, true)
    // What this node's pod sent and received.
    let (sent, received) = flow.direction == .outbound ? (flow.received, flow.sent) : (flow.sent, flow.received)
    add("bytes_sent", "\(sent)", false)
    add("bytes_recv", "\(received)", false)
    add("duration", "\(flow.ended.nanosecondsSince(flow.began) / 1_000_000)ms", true)
    add("error", flow.failure, true)
    return fields
}
