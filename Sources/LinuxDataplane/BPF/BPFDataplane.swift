/// The eBPF dataplane: connect-time translation for the processes of a cgroup. This file holds its state and its small
/// duties; writing is in BPFDataplane+Apply.swift, comparing in BPFDataplane+Verify.swift.
///
/// Dropping it leaves everything in force: maps and links are pinned. The next one adopts what is there.
import Addressing
import BPF
import CDataplaneABI
import CLinux
package import DataplaneIR
import Glibc
package import Observation
package import Reconcile

package final class BPFDataplane: Dataplane {
    package let name = "ebpf"
    let options: BPFDataplaneOptions
    let faults: FaultInjector
    let pins: BPFPins
    let maps: BPFMaps
    var attachment: BPFAttachment
    var mirror: BPFMirror
    var clusterIPs = ClusterIPClaims()
    /// The maps are new and not yet in the place of their predecessors.
    var isStaged: Bool
    /// A write failed: what the maps hold must be read before anything is compared with the mirror.
    var isMirrorDoubtful = false
    /// What was adopted at the start has not been compared with anything desired yet.
    var isFresh = true
    var knownPins = KnownPins()
    /// Under way; nil: the next begins at the beginning.
    var comparison: BPFComparison?
    /// UDP sockets may still point at backends that are gone.
    var mustCutSockets = true
    /// Loaded when it is first asked.
    var connectedUDP: ConnectedUDPSockets?
    /// Stale ones in network namespaces without a process, and the backends they go to: nothing can be done about them
    /// until a process comes there.
    var unreachableSockets: [UInt64: SocketAddress] = [:]
    var unreachableTried = ContinuousClock.now
    var unreachableRest = Duration.seconds(60)
    var linksPerContainer = DescriptorSearch.usualLimit
    /// Connected UDP sockets of backends that were gone, since the start.
    var socketsMoved: UInt64 = 0
    var socketsEnded: UInt64 = 0
    var socketsUnreachable: UInt64 = 0
    /// As of the last plan.
    var node: NodeProgram
    /// The kernel's number for the agent's own network namespace.
    let nodeCookie: UInt64

    package init(options: BPFDataplaneOptions, faults: FaultInjector = .none) throws(DataplaneError) {
        self.options = options
        self.faults = faults
        pins = BPFPins(root: options.bpffs)
        node = NodeProgram(nodeName: options.nodeName)
        do throws(BPFError) {
            let loaded = try BPFLoader(pins: pins, sizes: options.sizes, nodeName: options.nodeName).load()
            maps = loaded.maps
            isStaged = loaded.isStaged
            attachment = try BPFAttachment(pins: pins, cgroup: options.cgroup, programs: loaded.programs)
            mirror = BPFMirror(sizes: options.sizes)
            nodeCookie = try networkNamespaceCookie()
            try adopt()
        } catch {
            throw DataplaneError(error)
        }
    }

    package func collectGarbage() throws(DataplaneError) {
        do throws(BPFError) {
            try removeUnusedShares()
            try retryUnreachableSockets()
            guard mirror.hasRetired else { return }
            try waitForReaders()
        } catch {
            throw DataplaneError(error)
        }
        mirror.reuseRetired()
    }

    package func counters() throws(DataplaneError) -> [String: UInt64] {
        try Self.counters(maps.reasons)
            .merging([
                "udp_sockets_moved": socketsMoved, "udp_sockets_ended": socketsEnded,
                "udp_sockets_unreachable": socketsUnreachable,
            ]) { $1 }
    }
    private static let reasonNames = (0..<HEDDLE_REASON_COUNT.rawValue).map { String(cString: heddle_reason_name($0)) }
    static func counters(_ reasons: BPFMap<UInt32, UInt64>) throws(DataplaneError) -> [String: UInt64] {
        do throws(BPFError) {
            let sums = try reasons.sums()
            return Dictionary(uniqueKeysWithValues: zip(reasonNames, sums))
        } catch {
            throw DataplaneError(error)
        }
    }

    package func capacity() throws(DataplaneError) -> [MapUsage] {
        do throws(BPFError) {
            let counts = [
                "frontends": mirror.owners.count + mirror.strayFrontends.count, "services": mirror.services.count,
                "service_names": mirror.services.count, "backends": mirror.blocks.used,
                "node_addresses": mirror.nodeAddresses.count, "service_cidrs": mirror.ranges.count,
                "mesh_addresses": mirror.meshAddresses.count,
            ]
            return try maps.usage(counts)
        } catch {
            throw DataplaneError(error)
        }
    }
}

extension DataplaneError {
    init(_ error: BPFError) {
        self.init(operation: error.operation, code: error.code, description: error.description)
    }
}

/// The kernel's number for the network namespace of the calling thread: by it the programs tell processes of the node
/// from pods.
func networkNamespaceCookie() throws(BPFError) -> UInt64 {
    let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw BPFError("open a socket", errno) }
    defer { close(descriptor) }
    return try networkNamespaceCookie(of: descriptor)
}
/// The same for that of a socket.
func networkNamespaceCookie(of descriptor: Int32) throws(BPFError) -> UInt64 {
    let soNetnsCookie: Int32 = 71
    var cookie: UInt64 = 0
    var size = socklen_t(MemoryLayout<UInt64>.size)
    guard getsockopt(descriptor, SOL_SOCKET, soNetnsCookie, &cookie, &size) == 0 else {
        throw BPFError("ask for the network namespace's cookie", errno, detail: "Linux 5.14 or later is needed")
    }
    return cookie
}
