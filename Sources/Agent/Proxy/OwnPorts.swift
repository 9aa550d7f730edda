/// What of Heddle listens where on this node: no endpoint of a routed service may lead there.
import Addressing
import DataplaneIR

extension AgentConfiguration {
    /// The L7 proxy's own servers are its own to know; this is where they are unless it was told otherwise.
    private static let proxyMetricsPort: UInt16 = 15020

    /// Of the agent's servers.
    var agentPorts: [UInt16: String] {
        var ports = [
            metricsAddress.port: "the metrics server", healthzAddress.port: "the health server",
            Canary.addresses(.ipv4).backend.port: "the canary",
        ]
        if let probeAddress { ports[probeAddress.port] = "the server for probes" }
        return ports
    }
    var ownPorts: [UInt16: String] {
        agentPorts.merging([proxyPort: "the L7 proxy", Self.proxyMetricsPort: "the L7 proxy's metrics server"]) { $1 }
    }
}
