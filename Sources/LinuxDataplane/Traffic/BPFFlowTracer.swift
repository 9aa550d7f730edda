/// Live traffic under eBPF: loads traffic.bpf.c, whose programs run behind those of the dataplane, and reads what they
/// tell and count. Nothing is pinned: dropping it, or the end of the agent, ends it all.
import Addressing
import BPF
import BPFPrograms
import CDataplaneABI
package import DataplaneIR
import Glibc
package import Observation

package final class BPFFlowTracer: FlowTracer {
    /// Each of these runs after the dataplane's program at the same hook.
    private static let hooks: [CgroupHook] = [.connect4, .connect6, .sendmsg4, .sendmsg6]

    private static let memory = Duration.seconds(600)

    private let pins: BPFPins
    private let cgroupPath: String
    private let programs: [CgroupHook: BPFDescriptor]
    private var links: [CgroupHook: BPFLink] = [:]
    private let trace: BPFLink
    private let live: SocketIterator<heddle_live>
    private let events: RingBuffer<heddle_flow_event>
    private let traffics: BPFMap<heddle_traffic_key, heddle_traffic>
    private let observerMap: MappedArray<heddle_observer>
    private let observer: UnsafeMutablePointer<heddle_observer>
    private var changes: [FlowKey: (sum: UInt64, at: ContinuousClock.Instant)] = [:]
    private var names: ServiceNames
    private var clients: FlowClients

    /// `bpffs` and `cgroup`: those of the dataplane, which must be in force already.
    package init(bpffs: String, cgroup: String) throws(DataplaneError) {
        do throws(BPFError) {
            pins = BPFPins(root: bpffs)
            cgroupPath = cgroup
            guard BPFFileSystem.exists("/sys/kernel/btf/vmlinux") else {
                throw BPFError(
                    "look at live traffic", ENOTSUP, detail: "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)")
            }
            guard let maps = try BPFMaps.pinned(in: pins.maps) else {
                throw BPFError("open the maps in \(bpffs)", ENOENT)
            }
            var object = try BPFObject(name: "heddle_traffic", image: BPFObjectImage.traffic.bytes)
            for name in object.mapNames {
                if let map = maps.descriptors[name] { try object.reuse(name, map) }
            }
            try object.load()
            var programs: [CgroupHook: BPFDescriptor] = [:]
            for hook in Self.hooks { programs[hook] = try object.program("after_\(hook.rawValue)") }
            self.programs = programs
            traffics = try BPFMap(object.map("traffic"), name: "traffic")
            // Takes the traffic of those that find no room.
            try traffics.update(heddle_traffic_key(), heddle_traffic())
            observerMap = try MappedArray(BPFMap(object.map("observer"), name: "observer"))
            observer = try observerMap.elements(upTo: 1)
            events = try RingBuffer(object.map("events"), name: "events")
            names = ServiceNames(maps.serviceNames)
            clients = FlowClients(node: maps.config.pointee.node_cookie)
            guard let origins = maps.descriptors["socket_origin"] else { throw BPFError("open socket_origin", ENOENT) }
            live = try SocketIterator(object.program("live"), over: origins, name: "live")
            trace = try BPFLink.trace(object.program("set_state"), "inet_sock_set_state")
            try attach()
        } catch {
            throw DataplaneError(error)
        }
    }

    private func attach() throws(BPFError) {
        let cgroup = try CgroupDirectory(cgroupPath)
        for (hook, program) in programs { links[hook] = try BPFLink.attach(program, to: cgroup, as: hook) }
    }

    package func limit(to rate: UInt32) { observer.pointee.rate = rate }

    /// The dataplane may have attached its programs anew: then they come after ours, which would see nothing.
    package func maintain() throws(DataplaneError) {
        do throws(BPFError) {
            let cgroup = try CgroupDirectory(cgroupPath)
            for (hook, program) in programs {
                guard let pinned = try BPFDescriptor.pinned(at: "\(pins.links)/\(hook.rawValue)") else { continue }
                let first = try BPFLink(pinned).state().program
                let order = try cgroup.programs(at: hook)
                let own = try order.firstIndex(of: program.programID())
                if let own, let dataplane = order.firstIndex(of: first), own > dataplane { continue }
                links[hook] = nil
                links[hook] = try BPFLink.attach(program, to: cgroup, as: hook)
            }
        } catch {
            throw DataplaneError(error)
        }
    }

    package var dropped: UInt64 { heddle_read(&observer.pointee.dropped) }

    package func drain(_ take: (FlowEvent) -> Void) throws(DataplaneError) {
        let offset = wallClockOffset()
        do throws(BPFError) {
            try events.drain { raw in take(self.event(raw, offset)) }
        } catch {
            throw DataplaneError(error)
        }
    }

    private func event(_ raw: heddle_flow_event, _ offset: Double) -> FlowEvent {
        let kind = FlowEvent.Kind(raw.kind)
        let address = { (address: heddle_address, port: UInt16) -> SocketAddress? in
            address.low == 0 && address.high == 0 ? nil : SocketAddress(address.value, UInt16(bigEndian: port))
        }
        var event = FlowEvent(
            time: Double(raw.time) / 1e9 + offset, kind: kind, protocol: FlowTransport(raw.protocol),
            dialled: SocketAddress(raw.dialled.value, UInt16(bigEndian: raw.dialled_port)),
            backend: address(raw.backend, raw.backend_port))
        event.service = names[raw.svc_id]
        let pid = raw.pid == 0 || isConnectedAnew(raw) ? nil : Int32(bitPattern: raw.pid)
        event.source = address(raw.source, raw.source_port)
        clients.complete(&event, namespace: raw.netns, pid: pid)
        event.pid = pid
        let command = text(raw.command)
        event.command = pid == nil || command.isEmpty ? nil : command
        if raw.error != 0 { event.error = errorName(Int32(bitPattern: raw.error)) }
        if raw.affinity_hits > 0 { event.affinityHits = Int(raw.affinity_hits) }
        if kind == .closed {
            event.received = raw.received
            event.sent = raw.sent
            event.seconds = raw.duration > 0 ? Double(raw.duration) / 1e9 : nil
        }
        if raw.rtt > 0 { event.roundTripSeconds = Double(raw.rtt) / 1e6 }
        return event
    }

    /// A program's UDP socket that this process has connected to another backend, see `StaleSockets`: whose it is, the
    /// kernel does not tell here. What this process sends by UDP for itself is not told apart.
    private func isConnectedAnew(_ raw: heddle_flow_event) -> Bool {
        raw.protocol == TransportProtocol.udp.rawValue && raw.pid == UInt32(bitPattern: getpid())
    }

    package func traffic() throws(DataplaneError) -> [BackendTraffic] {
        do throws(BPFError) {
            var sockets: [FlowKey: (count: Int, roundTrips: MeanSeconds)] = [:]
            try live.forEach { line in
                var sum = sockets[FlowKey(line.key)] ?? (0, MeanSeconds())
                sum.count += 1
                if line.rtt > 0 { sum.roundTrips.add(Double(line.rtt) / 1e6) }
                sockets[FlowKey(line.key)] = sum
            }
            var result: [BackendTraffic] = []
            for (rawKey, counts) in try traffics.entries() {
                let key = FlowKey(rawKey)
                if sockets[key] == nil, isIdle(key, counts) {
                    try traffics.delete(rawKey)
                    changes[key] = nil
                    continue
                }
                // What pods of the mesh dial by address is of no service either, but it is known where it goes.
                let isOthers = key.serviceID == 0 && key.backend == nil
                var line = BackendTraffic(
                    service: names[key.serviceID], protocol: isOthers ? .several : FlowTransport(key.transport),
                    backend: key.backend)
                line.connections = counts.connections
                line.failures = counts.failures
                // Of datagrams nothing but the first of a flow is looked at.
                if key.transport == TransportProtocol.tcp.rawValue {
                    line.received = counts.received
                    line.sent = counts.sent
                }
                if let sum = sockets[key] {
                    line.active = sum.count
                    line.roundTripSeconds = sum.roundTrips.value
                }
                // A service that is gone has no name any more.
                if line.service != nil || key.serviceID == 0 { result.append(line) }
            }
            return result
        } catch {
            throw DataplaneError(error)
        }
    }

    /// Nothing happened there for ten minutes: the room is needed for others.
    private func isIdle(_ key: FlowKey, _ counts: heddle_traffic) -> Bool {
        guard key.serviceID != 0 else { return false }
        let sum = counts.connections &+ counts.failures &+ counts.received &+ counts.sent
        let now = ContinuousClock.now
        guard let (known, since) = changes[key], known == sum else {
            changes[key] = (sum, now)
            return false
        }
        return since.duration(to: now) > Self.memory
    }
}

/// heddle_traffic_key.
private struct FlowKey: Hashable {
    let serviceID: UInt32
    let transport: UInt8
    /// nil: none could be chosen.
    let backend: SocketAddress?

    init(_ raw: heddle_traffic_key) {
        serviceID = raw.svc_id
        transport = raw.protocol
        let address = SocketAddress(raw.backend.value, UInt16(bigEndian: raw.backend_port))
        backend = address.port == 0 ? nil : address
    }
}

/// Names of services by the number the kernel has for them, which is never used again.
private struct ServiceNames {
    private let map: BPFMap<UInt32, heddle_service_name>
    private var known: [UInt32: ServicePortName] = [:]

    init(_ map: BPFMap<UInt32, heddle_service_name>) { self.map = map }

    subscript(id: UInt32) -> ServicePortName? {
        mutating get {
            if let name = known[id] { return name }
            guard id != 0, let name = (try? map.lookup(id))?.id.map(ServicePortName.init) else { return nil }
            if known.count >= 10_000 { known = [:] }
            known[id] = name
            return name
        }
    }
}

extension FlowEvent.Kind {
    /// enum heddle_flow_kind.
    fileprivate init(_ number: UInt8) {
        switch UInt32(number) {
        case HEDDLE_FLOW_CONNECT.rawValue: self = .connect
        case HEDDLE_FLOW_DATAGRAMS.rawValue: self = .datagrams
        case HEDDLE_FLOW_REFUSED.rawValue: self = .refused
        case HEDDLE_FLOW_FAILED.rawValue: self = .failed
        default: self = .closed
        }
    }
}

/// The errors a connect can end with, by their names; others by number.
func errorName(_ code: Int32) -> String {
    switch code {
    case ECONNREFUSED: "ECONNREFUSED"
    case EHOSTUNREACH: "EHOSTUNREACH"
    case ENETUNREACH: "ENETUNREACH"
    case ETIMEDOUT: "ETIMEDOUT"
    case ECONNRESET: "ECONNRESET"
    case EPIPE: "EPIPE"
    case EPERM: "EPERM"
    case EACCES: "EACCES"
    default: "errno \(code)"
    }
}

/// Seconds since 1970.
func wallClock() -> Double { seconds(CLOCK_REALTIME) }

/// From CLOCK_MONOTONIC to seconds since 1970.
private func wallClockOffset() -> Double { wallClock() - seconds(CLOCK_MONOTONIC) }

private func seconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
