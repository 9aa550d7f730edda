/// What one request leaves behind: for metrics, the access log and spans.
package import Balancing
package import RouteIR

/// Envoy's response flags, as far as we have their causes (spec 5.4).
package struct ResponseFlags: OptionSet, Hashable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let noHealthyUpstream = ResponseFlags(rawValue: 1 << 0)
    package static let connectFailure = ResponseFlags(rawValue: 1 << 1)
    package static let overflow = ResponseFlags(rawValue: 1 << 2)
    package static let noRoute = ResponseFlags(rawValue: 1 << 3)
    package static let retriesExhausted = ResponseFlags(rawValue: 1 << 4)
    package static let noUpstream = ResponseFlags(rawValue: 1 << 5)
    package static let downstreamClosed = ResponseFlags(rawValue: 1 << 6)
    package static let upstreamTimeout = ResponseFlags(rawValue: 1 << 7)
    package static let upstreamReset = ResponseFlags(rawValue: 1 << 8)
    package static let upstreamClosed = ResponseFlags(rawValue: 1 << 9)
    package static let idleTimeout = ResponseFlags(rawValue: 1 << 10)
    package static let downstreamProtocolError = ResponseFlags(rawValue: 1 << 11)
    package static let upstreamProtocolError = ResponseFlags(rawValue: 1 << 12)

    private static let names: [(ResponseFlags, String)] = [
        (.noHealthyUpstream, "UH"), (.connectFailure, "UF"), (.overflow, "UO"), (.noRoute, "NR"),
        (.retriesExhausted, "URX"), (.noUpstream, "NC"), (.downstreamClosed, "DC"), (.upstreamTimeout, "UT"),
        (.upstreamReset, "UR"), (.upstreamClosed, "UC"), (.idleTimeout, "SI"), (.downstreamProtocolError, "DPE"),
        (.upstreamProtocolError, "UPE"),
    ]
    package var description: String {
        isEmpty ? "-" : Self.names.filter { contains($0.0) }.map(\.1).joined(separator: ",")
    }
}

package struct RequestRecord: Sendable {
    package var began: Moment
    package var ended: Moment
    package var method = ""
    package var path = ""
    /// Of the connection it came by.
    package var scheme: String
    package var authority = ""
    package var minorVersion: UInt8 = 1
    package var isHTTP2 = false
    package var userAgent: String?
    package var requestID: String?
    package var forwardedFor: String?
    package var status: UInt16 = 0
    package var grpcStatus: GRPCStatus?
    package var isGRPC = false
    /// Of gRPC.
    package var requestMessages: UInt64 = 0
    package var responseMessages: UInt64 = 0
    package var flags: ResponseFlags = []
    /// `via_upstream`, `route_not_found`, ...
    package var details = "via_upstream"
    package var failure: String?
    package var bytesReceived: UInt64 = 0
    package var bytesSent: UInt64 = 0
    package var upstreamTime: Duration?
    package var upstream: SocketAddress?
    package var upstreamLocal: SocketAddress?
    /// What was dialled, and where it was sent.
    package var service: UpstreamID?
    package var upstreamID: UpstreamID?
    package var rule: String?
    package var client: SocketAddress
    package var dialled: SocketAddress
    package var source: WorkloadEntry?
    package var destination: WorkloadEntry?
    package var attempts: UInt32 = 0
    /// By a tunnel.
    package var isMutual = false
    package var trace: TraceContext?

    package var duration: Duration { ended.since(began) }
}

/// Takes finished requests without ever making anyone wait.
package protocol AccessLogSink: AnyObject, Sendable {
    func log(_ record: RequestRecord, node: ProxyNode)
    func log(_ flow: FlowRecord, node: ProxyNode)
}
extension AccessLogSink {
    package func log(_ flow: FlowRecord, node: ProxyNode) {}
}
package protocol SpanSink: AnyObject, Sendable {
    func export(_ record: RequestRecord, node: ProxyNode)
}
