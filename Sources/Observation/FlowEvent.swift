/// What a dataplane tells of live traffic to services, when asked: single flows, and sums. Names of pods, and under
/// nftables those of services, are filled in by whoever knows the cluster.
package import Addressing

package struct FlowEvent: Codable, Sendable, Equatable {
    package enum Kind: String, Codable, Sendable, CaseIterable {
        /// The first packet of a TCP connection left for the backend.
        case connect
        /// The first datagram to a destination, or connect(2) of a UDP socket.
        case datagrams
        /// Refused on the node, before any packet.
        case refused
        /// The TCP connection was not established.
        case failed
        /// The TCP connection ended.
        case closed
    }
    /// Seconds since 1970.
    package var time: Double
    package var kind: Kind
    package var `protocol`: FlowTransport
    /// nil: no service has the address.
    package var service: ServicePortName?
    /// Port 0: not chosen yet. nil: neither is the address.
    package var source: SocketAddress?
    package var client: FlowEnd?
    package var pid: Int32?
    package var command: String?
    package var dialled: SocketAddress
    package var backend: SocketAddress?
    /// Who has the backend's address.
    package var backendPod: FlowEnd?
    /// nil: the mesh has no say in it.
    package var passage: FlowPassage?
    /// As in errno.h: `ECONNREFUSED`.
    package var error: String?
    /// How many times in a row session affinity has led the client to this backend again.
    package var affinityHits: Int?
    /// Bytes, once closed.
    package var received: UInt64?
    package var sent: UInt64?
    /// From established to closed.
    package var seconds: Double?
    /// Smoothed.
    package var roundTripSeconds: Double?

    package init(
        time: Double, kind: Kind, protocol: FlowTransport, dialled: SocketAddress, backend: SocketAddress? = nil
    ) {
        self.time = time
        self.kind = kind
        self.protocol = `protocol`
        self.dialled = dialled
        self.backend = backend
    }
}

/// Events in the order they came, of which some may be missing.
package struct FlowEvents: Codable, Sendable, Equatable {
    package var events: [FlowEvent]
    /// The number of the event that will come after these.
    package var next: UInt64
    /// Events that were kept for the one who asks, but not for so long.
    package var missed: UInt64
    /// Events above the rate limit, since the observing began.
    package var dropped: UInt64

    package init(events: [FlowEvent], next: UInt64, missed: UInt64, dropped: UInt64) {
        self.events = events
        self.next = next
        self.missed = missed
        self.dropped = dropped
    }
}

/// What one backend of one service port was seen to do since the counting began.
package struct BackendTraffic: Codable, Sendable, Equatable {
    package var service: ServicePortName?
    package var `protocol`: FlowTransport
    /// Where the dataplane knows this but not the service.
    package var dialled: SocketAddress?
    /// nil: there was none to choose.
    package var backend: SocketAddress?
    package var backendPod: FlowEnd?
    /// TCP connections begun, UDP flows.
    package var connections: UInt64
    /// Refused, or not established.
    package var failures: UInt64
    package var active: Int
    /// Bytes, as the client sees them; nil: the dataplane does not count them.
    package var received: UInt64?
    package var sent: UInt64?
    /// Mean over the connections that are open; nil: none was measured.
    package var roundTripSeconds: Double?

    package init(service: ServicePortName?, protocol: FlowTransport, backend: SocketAddress?) {
        self.service = service
        self.protocol = `protocol`
        self.backend = backend
        (connections, failures, active) = (0, 0, 0)
    }

    /// The counts of both together.
    package func adding(_ other: BackendTraffic) -> BackendTraffic {
        var sum = self
        sum.connections += other.connections
        sum.failures += other.failures
        sum.active += other.active
        if let bytes = other.received { sum.received = (received ?? 0) + bytes }
        if let bytes = other.sent { sum.sent = (sent ?? 0) + bytes }
        return sum
    }
}

package struct TrafficReport: Codable, Sendable, Equatable {
    /// Seconds since 1970.
    package var time: Double
    package var backends: [BackendTraffic]
    /// Traffic of backends for which there was no room.
    package var others: BackendTraffic?

    package init(time: Double, backends: [BackendTraffic]) {
        self.time = time
        self.backends = backends
    }
}

/// The mean of times that come one by one, or as means of several.
package struct MeanSeconds: Sendable, Equatable {
    private var sum = 0.0
    private var count = 0

    package init() {}
    package mutating func add(_ seconds: Double, times: Int = 1) {
        sum += seconds * Double(times)
        count += times
    }
    /// nil: there was none.
    package var value: Double? { count > 0 ? sum / Double(count) : nil }
}
