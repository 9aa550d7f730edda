/// One line of the access log about a relayed connection, when it has ended, in the form of Istio's ambient mode, or as
/// JSON with the same names.
import Addressing
import Balancing
import CertificateAuthority
import Glibc
import RouteIR

/// The line with its newline.
func flowLine(_ flow: FlowRecord, _ format: AccessLog.Format, _ node: ProxyNode, ended: timespec) -> [UInt8] {
    var line = FlowLineWriter(isJSON: format == .json)
    line.write(flow, node, ended)
    return line.writer.bytes
}

private struct FlowLineWriter {
    let isJSON: Bool
    var writer = LineWriter()

    init(isJSON: Bool) { self.isJSON = isJSON }

    mutating func write(_ flow: FlowRecord, _ node: ProxyNode, _ ended: timespec) {
        writer.plain(isJSON ? "{\"time\":\"" : "[")
        writer.time(ended)
        writer.plain(isJSON ? "\",\"scope\":\"access\",\"message\":\"connection " : "] access connection ")
        writer.plain(flow.isOpen ? "complete" : "failed")
        if isJSON { writer.plain("\"") }
        address("src", ".addr", flow.client)
        side("src", flow.source?.workload, flow.sourceIdentity, node)
        let server = flow.direction == .inbound ? flow.dialled : flow.server ?? flow.dialled
        address("dst", ".addr", flow.tunnel ?? server)
        if flow.isTunnelled { address("dst", ".hbone_addr", server) }
        text("dst", ".service", flow.service?.service.hostname ?? flow.serviceHost)
        side("dst", flow.destination?.workload, flow.destinationIdentity, node)
        text("direction", "", flow.direction.rawValue)
        // What this node's pod sent and received.
        let isOutbound = flow.direction == .outbound
        count("bytes_sent", isOutbound ? flow.received : flow.sent)
        count("bytes_recv", isOutbound ? flow.sent : flow.received)
        name("duration", "")
        writer.plain("\"")
        writer.number(flow.ended.nanosecondsSince(flow.began) / 1_000_000)
        writer.plain("ms\"")
        text("error", "", flow.failure)
        writer.plain(isJSON ? "}\n" : "\n")
    }

    private mutating func side(
        _ side: StaticString, _ workload: Workload?, _ identity: WorkloadIdentity?, _ node: ProxyNode
    ) {
        text(side, ".workload", workload?.pod)
        text(side, ".namespace", workload?.namespace ?? identity?.account.namespace)
        if let identity {
            name(side, ".identity")
            writer.plain("\"spiffe://")
            writer.string(identity.trustDomain)
            writer.plain("/ns/")
            writer.string(identity.account.namespace)
            writer.plain("/sa/")
            writer.string(identity.account.name)
            writer.plain("\"")
        }
        if workload != nil { text(side, ".cluster", node.clusterName) }
    }

    private mutating func name(_ first: StaticString, _ second: StaticString) {
        writer.plain(isJSON ? ",\"" : " ")
        writer.plain(first)
        writer.plain(second)
        writer.plain(isJSON ? "\":" : "=")
    }
    private mutating func text(_ first: StaticString, _ second: StaticString, _ value: String?) {
        guard let value else { return }
        name(first, second)
        writer.quoted(value)
    }
    private mutating func address(_ first: StaticString, _ second: StaticString, _ value: SocketAddress) {
        name(first, second)
        if isJSON { writer.plain("\"") }
        writer.address(value)
        if isJSON { writer.plain("\"") }
    }
    private mutating func count(_ field: StaticString, _ value: UInt64) {
        name(field, "")
        writer.number(value)
    }
}
