/// The programs of own.bpf.c: by them the L7 proxy's sockets are known as the node's own, and applications see the
/// client behind the proxy. Attached only while pods of this node are enrolled, for each accept and each setsockopt of
/// the proxy passes them.
///
/// Pins, below `<bpffs>/own`: `maps/<map>`, `links/<program>` and `proxies/<cgroup ID>/links/setsockopt`.
/// Dropping it leaves everything in force; the next one adopts what is there, with the token that the proxy has.
import BPF
import BPFPrograms
import CDataplaneABI
package import DataplaneIR
import Glibc
package import Reconcile

package final class OwnSockets {
    /// Where pods and kubelet are. What shows the client comes before what says who it is.
    private static let hooks: [CgroupHook] = [.getpeername4, .getpeername6, .sockOps]

    private let pins: BPFPins
    private let cgroup: String
    private let programs: [String: BPFDescriptor]
    private let config: BPFMap<UInt32, heddle_own_config>
    private let probers: BPFMap<UInt64, UInt32>
    private let reasons: BPFMap<UInt32, UInt64>
    private var attachment: BPFAttachment
    /// Where the proxies are, by the number of their cgroup.
    private var proxies: [UInt64: BPFAttachment] = [:]
    /// Whoever has it speaks for the node: 16 bytes for the proxy and nobody else.
    package let token: [UInt8]

    /// `cgroup`: below it are pods, proxies and kubelet. The calling thread's network namespace is the node's.
    package init(bpffs: String, cgroup: String) throws(DataplaneError) {
        self.cgroup = cgroup
        pins = BPFPins(own: bpffs)
        do throws(BPFError) {
            var object = try BPFObject(name: "heddle_own", image: BPFObjectImage.own.bytes)
            try object.reuse(OwnConnections.name, OwnConnections.map(bpffs: bpffs))
            try object.adoptMaps(in: pins.maps)
            try object.load()
            try object.pinMaps(in: pins.maps)
            var programs: [String: BPFDescriptor] = [:]
            for hook in Self.hooks + [.setsockopt] { programs[hook.rawValue] = try object.program(hook.rawValue) }
            self.programs = programs
            config = try BPFMap(object.map("own_config"), name: "own_config")
            probers = try BPFMap(object.map("own_probers"), name: "own_probers")
            reasons = try BPFMap(object.map("own_reasons"), name: "own_reasons")
            attachment = try BPFAttachment(pins: pins, cgroup: cgroup, programs: programs)
            var settings = try config.lookup(0) ?? heddle_own_config()
            if settings.token == (0, 0) { settings.token = (.random(in: 1...(.max)), .random(in: 1...(.max))) }
            settings.node_cookie = try networkNamespaceCookie()
            try config.update(0, settings)
            token = withUnsafeBytes(of: settings.token) { Array($0) }
        } catch {
            throw DataplaneError(error)
        }
    }

    /// Attaches what is not attached yet. `proxies`: the cgroups of those that are connected; one that is not below
    /// ours is left alone.
    package func attach(proxies directories: Set<String>, faults: FaultInjector = .none) throws(DataplaneError) {
        do throws(BPFError) {
            _ = try attachment.ensure(Self.hooks, faults)
            var wanted: Set<UInt64> = []
            for path in directories where path == cgroup || path.hasPrefix(cgroup + "/") {
                guard let id = try Self.id(of: path) else { continue }
                wanted.insert(id)
                if proxies[id] == nil {
                    proxies[id] = try BPFAttachment(pins: proxyPins(id), cgroup: path, programs: programs)
                }
                _ = try proxies[id]?.ensure([.setsockopt], faults)
            }
            // None at all is no answer: an agent that has just begun, or a proxy that is replaced, and what connects
            // meanwhile is to be known.
            for id in attachedProxies where !wanted.isEmpty && !wanted.contains(id) {
                proxies[id] = nil
                try BPFPins.removeAll(in: proxyPins(id).links)
                try BPFFileSystem.removeDirectory(proxyPins(id).root)
            }
        } catch {
            throw DataplaneError(error)
        }
    }

    /// The cgroups of who probes pods from this node: kubelet.
    package func setProbers(_ directories: Set<String>) throws(DataplaneError) {
        do throws(BPFError) {
            var ids: Set<UInt64> = []
            for path in directories { if let id = try Self.id(of: path) { ids.insert(id) } }
            for id in ids { try probers.update(id, 1) }
            for id in try probers.keys() where !ids.contains(id) { try probers.delete(id) }
            guard var settings = try config.lookup(0) else { return }
            settings.has_probers = ids.isEmpty ? 0 : 1
            try config.update(0, settings)
        } catch {
            throw DataplaneError(error)
        }
    }

    /// What is wrong with the links; empty: nothing.
    package func drift() -> [Drift] {
        attachment.drift(Self.hooks) + proxies.keys.sorted().flatMap { proxies[$0]?.drift([.setsockopt]) ?? [] }
    }

    package func counters() throws(DataplaneError) -> [String: UInt64] {
        do throws(BPFError) {
            return Dictionary(uniqueKeysWithValues: zip(Self.reasonNames, try reasons.sums()))
        } catch {
            throw DataplaneError(error)
        }
    }
    private static let reasonNames = (0..<HEDDLE_OWN_REASON_COUNT.rawValue).map {
        String(cString: heddle_own_reason_name($0))
    }

    /// Ends it while no pod is enrolled. The map of connections stays: the steering of this agent, or of the one
    /// before, looks into that one and into no other.
    package static func detach(bpffs: String) throws(DataplaneError) {
        do throws(BPFError) {
            try removePins(bpffs: bpffs, but: OwnConnections.name)
            // Nobody is left who takes out what was announced.
            try OwnConnections.clear(bpffs: bpffs)
        } catch { throw DataplaneError(error) }
    }

    /// Takes everything out of the kernel; returns what was removed, as paths.
    @discardableResult
    package static func remove(bpffs: String) throws(DataplaneError) -> [String] {
        do throws(BPFError) { return try removePins(bpffs: bpffs) } catch { throw DataplaneError(error) }
    }
    /// `kept`: a map that stays.
    @discardableResult
    static func removePins(bpffs: String, but kept: String? = nil) throws(BPFError) -> [String] {
        let pins = BPFPins(own: bpffs)
        guard BPFFileSystem.isBPF(pins.root) else { return [] }
        let proxies = BPFFileSystem.names(in: "\(pins.root)/proxies").map { "\(pins.root)/proxies/\($0)" }
        let files = (proxies.map { "\($0)/links" } + [pins.links, pins.maps]).flatMap { directory in
            BPFFileSystem.names(in: directory).map { "\(directory)/\($0)" } + [directory]
        }
        let directories = proxies + ["\(pins.root)/proxies", pins.root]
        let stays = kept.map { [pins.root, pins.maps, "\(pins.maps)/\($0)"] } ?? []
        var removed: [String] = []
        for path in files + directories where BPFFileSystem.exists(path) && !stays.contains(path) {
            if BPFFileSystem.isDirectory(path) {
                try BPFFileSystem.removeDirectory(path)
            } else {
                try BPFFileSystem.remove(path)
            }
            removed.append(path)
        }
        return removed
    }

    private func proxyPins(_ id: UInt64) -> BPFPins { BPFPins(root: "\(pins.root)/proxies/\(id)") }
    private var attachedProxies: [UInt64] { BPFFileSystem.names(in: "\(pins.root)/proxies").compactMap { UInt64($0) } }

    /// nil: the cgroup has gone meanwhile.
    private static func id(of path: String) throws(BPFError) -> UInt64? {
        do throws(BPFError) { return try CgroupDirectory(path).id } catch {
            guard error.code == ENOENT else { throw error }
            return nil
        }
    }
}
