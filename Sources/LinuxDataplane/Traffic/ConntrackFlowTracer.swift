/// Live traffic that nftables translates, as connection tracking tells of it. A packet that a rule refuses is never
/// tracked, so refusals are not seen here; nor is who sent it, or how long its round trip is. Bytes are counted where
/// the sysctl net.netfilter.nf_conntrack_acct is on.
import Addressing
package import DataplaneIR
import Glibc
import Netlink
package import Observation

package final class ConntrackFlowTracer: FlowTracer {
    private static let mostFlows = 200_000
    private static let mostBackends = 8192
    /// A flow that ends unanswered before that was answered with a reset; else it had until then to be answered.
    private static let resetWithin = 60.0

    private let monitor: ConntrackMonitor
    private let client: ConntrackClient
    private var rate: UInt32 = 0
    private var second: Int = 0
    private var count: UInt32 = 0
    private var leftOut: UInt64 = 0
    /// Those that began while we looked.
    private var began: [FlowTuple: Double] = [:]
    private var sums: [FlowBackend: Sum] = [:]

    /// A frontend, as the client dialled it, and the backend.
    private struct FlowBackend: Hashable {
        let dialled: SocketAddress
        let backend: SocketAddress
        let transport: TransportProtocol

        init(_ entry: ConntrackEntry) {
            dialled = entry.original.destination
            backend = entry.reply.source
            transport = entry.original.transport
        }
        /// Stands for all that find no room.
        init() {
            let nowhere = SocketAddress(IPAddress(v4: 0), 0)
            (dialled, backend, transport) = (nowhere, nowhere, .tcp)
        }
    }
    private struct Sum {
        var connections: UInt64 = 0
        var failures: UInt64 = 0
        /// Of flows that are gone.
        var received: UInt64 = 0
        var sent: UInt64 = 0
    }

    /// `isCompanion`: it is not what most connections pass, and must not cost those others much. Then a connection
    /// ends when it is forgotten, some time after it was closed. Serves the network namespace of the calling thread.
    package init(isCompanion: Bool) throws(DataplaneError) {
        do throws(NetlinkError) {
            monitor = try ConntrackMonitor(withUpdates: !isCompanion)
            client = try ConntrackClient()
        } catch {
            throw DataplaneError(error)
        }
    }

    package func limit(to rate: UInt32) { self.rate = rate }
    package func maintain() throws(DataplaneError) {}
    package var dropped: UInt64 { leftOut + monitor.lost }

    package func drain(_ take: (FlowEvent) -> Void) throws(DataplaneError) {
        do throws(NetlinkError) {
            try monitor.drain { change in
                guard change.flow.isTranslated, let event = self.event(change) else { return }
                // What the agent tries for itself is none of what the limit is for.
                if Canary.isDialled(event.dialled) || self.isWithinRate(event.time) { take(event) }
            }
        } catch {
            throw DataplaneError(error)
        }
    }

    private func isWithinRate(_ time: Double) -> Bool {
        guard rate > 0 else { return false }
        if second != Int(time) { (second, count) = (Int(time), 0) }
        guard count < rate else {
            leftOut += 1
            return false
        }
        count += 1
        return true
    }

    private func event(_ change: ConntrackEvent) -> FlowEvent? {
        let entry = change.flow.entry
        let key = FlowBackend(entry)
        let now = wallClock()
        var event = FlowEvent(
            time: now, kind: .connect, protocol: .known(key.transport), dialled: key.dialled, backend: key.backend)
        event.source = entry.original.source
        switch change.change {
        case .new:
            if began.count < Self.mostFlows { began[entry.original] = now }
            sums[room(for: key), default: Sum()].connections += 1
            event.kind = key.transport == .udp ? .datagrams : .connect
        case .update:
            guard key.transport == .tcp, entry.tcpState == .timeWait || entry.tcpState == .closed else { return nil }
            // The first of these is the end; an entry that began before we looked has no beginning.
            guard let start = began.removeValue(forKey: entry.original) else { return nil }
            event.kind = .closed
            event.seconds = now - start
        case .destroy:
            let start = began.removeValue(forKey: entry.original)
            sums[room(for: key), default: Sum()].received += change.flow.receivedBytes ?? 0
            sums[room(for: key), default: Sum()].sent += change.flow.sentBytes ?? 0
            guard key.transport != .udp else { return nil }
            if change.flow.isAnswered {
                // Unless that was told when it was closed.
                guard let start else { return nil }
                event.kind = .closed
                event.seconds = now - start
            } else {
                sums[room(for: key), default: Sum()].failures += 1
                event.kind = .failed
                if let start { event.error = errorName(now - start < Self.resetWithin ? ECONNREFUSED : ETIMEDOUT) }
            }
        }
        return event
    }

    /// The key itself, or that of all others when there are too many.
    private func room(for key: FlowBackend) -> FlowBackend {
        sums[key] != nil || sums.count < Self.mostBackends ? key : Self.others
    }
    private static let others = FlowBackend()

    package func traffic() throws(DataplaneError) -> [BackendTraffic] {
        var open: [FlowBackend: (active: Int, received: UInt64?, sent: UInt64?)] = [:]
        do throws(NetlinkError) {
            for family in AddressFamily.allCases {
                for flow in try client.translatedFlows(family) {
                    let key = room(for: FlowBackend(flow.entry))
                    var sum = open[key] ?? (0, nil, nil)
                    sum.active += flow.isOpen ? 1 : 0
                    if let bytes = flow.receivedBytes { sum.received = (sum.received ?? 0) + bytes }
                    if let bytes = flow.sentBytes { sum.sent = (sum.sent ?? 0) + bytes }
                    open[key] = sum
                }
            }
        } catch {
            throw DataplaneError(error)
        }
        return Set(sums.keys).union(open.keys).map { key in
            let sum = sums[key] ?? Sum()
            let isOthers = key == Self.others
            var line = BackendTraffic(
                service: nil, protocol: isOthers ? .several : .known(key.transport),
                backend: isOthers ? nil : key.backend)
            line.dialled = isOthers ? nil : key.dialled
            line.connections = sum.connections
            line.failures = sum.failures
            line.active = open[key]?.active ?? 0
            if let live = open[key]?.received ?? (sum.received > 0 ? 0 : nil) { line.received = live + sum.received }
            if let live = open[key]?.sent ?? (sum.sent > 0 ? 0 : nil) { line.sent = live + sum.sent }
            return line
        }
    }
}

extension TrackedFlow {
    /// Established and not yet closed from both sides; for what has no state, as long as it is remembered.
    fileprivate var isOpen: Bool {
        switch entry.tcpState {
        case nil, .established, .finWait, .closeWait: true
        default: false
        }
    }
}
