/// Steering by an sk_lookup program: decided at the SYN, before any listener is looked for, whatever an application
/// listens at. The pod cannot touch it. Links are pinned, so it holds without an agent.
package import Addressing
import BPF
import CDataplaneABI
package import DataplaneIR
import Glibc
import Netns
package import Reconcile

package final class BPFSteering: PodSteering {
    private let pins: SteerPins
    private let object: SteerObject
    /// By the inode of the namespace.
    private var links: [UInt64: BPFLink] = [:]
    private let ownPrograms: Set<UInt32>

    /// Goes on with what a predecessor left.
    package init(bpffs: String) throws(DataplaneError) {
        pins = SteerPins(bpffs: bpffs)
        do throws(BPFError) {
            object = try SteerObject(pins: pins, own: try OwnConnections.map(bpffs: bpffs))
            ownPrograms = [try object.open.programID(), try object.strict.programID()]
        } catch { throw DataplaneError(error) }
    }

    /// What an agent without a mesh finds of one that had one.
    package static func remove(bpffs: String) throws(DataplaneError) -> [String] {
        do throws(BPFError) { return try SteerPins(bpffs: bpffs).removeAll() } catch { throw DataplaneError(error) }
    }

    package func attach(_ pod: SteeredPod) throws(DataplaneError) -> [IPAddress: Int32] {
        var listeners: [IPAddress: Int32] = [:]
        do throws(DataplaneError) {
            // Listeners first, the link last: what the program finds is complete.
            for address in pod.addresses.keys {
                listeners[address] = try newListener(address, of: pod)
            }
            do throws(BPFError) {
                for (address, program) in pod.addresses { try write(program, of: address) }
                try link(pod)
            } catch { throw DataplaneError(error) }
            return listeners
        } catch {
            for listener in listeners.values { close(listener) }
            throw error
        }
    }

    /// Where it listens does not matter to the program: it must only not be found by others.
    private func newListener(_ address: IPAddress, of pod: SteeredPod) throws(DataplaneError) -> Int32 {
        let loopback = address.isIPv4 ? IPAddress(v4: 0x7f00_0001) : IPAddress(high: 0, low: 1)
        let listener = try PodSocket.listener(at: SocketAddress(loopback, 0), in: pod.namespace)
        do throws(BPFError) {
            try object.listeners.update(heddle_address(address), UInt64(listener))
            return listener
        } catch {
            close(listener)
            throw DataplaneError(error)
        }
    }

    // MARK: Programs of pods

    package func change(_ pod: SteeredPod) throws(DataplaneError) {
        do throws(BPFError) {
            for (address, program) in pod.addresses { try write(program, of: address) }
            try link(pod)
        } catch { throw DataplaneError(error) }
    }

    private func write(_ program: MeshPodProgram, of address: IPAddress) throws(BPFError) {
        let ports = program.steerPorts
        for (port, value) in ports { try object.ports.update(key(address, port), value) }
        try object.pods.update(
            heddle_address(address),
            heddle_steer_pod(mode: program.mode.steering, has_ports: ports.isEmpty ? 0 : 1, unused: (0, 0, 0, 0, 0, 0)))
        try removePorts(of: address) { ports[$0] != nil }
    }

    private func removePorts(of address: IPAddress, except: (UInt16) -> Bool) throws(BPFError) {
        let pod = heddle_address(address)
        for (key, _) in try object.ports.entries()
        where key.pod.high == pod.high && key.pod.low == pod.low && !except(key.port) {
            try object.ports.delete(key)
        }
    }

    private func key(_ address: IPAddress, _ port: UInt16) -> heddle_steer_port_key {
        heddle_steer_port_key(pod: heddle_address(address), port: port, unused: (0, 0, 0))
    }

    // MARK: Links

    private func link(_ pod: SteeredPod) throws(BPFError) {
        let inode = pod.namespace.id.inode
        let program = pod.isStrict ? object.strict : object.open
        if let link = try present(inode), try link.networkState().namespace == inode {
            if try link.networkState().program != program.programID() { try link.update(to: program) }
            links[inode] = link
        } else {
            links[inode] = try BPFLink.attach(program, toNetwork: pod.namespace.descriptor)
        }
        guard let link = links[inode] else { return }
        let path = pins.link(inode)
        if try BPFDescriptor.pinned(at: path)?.linkID() != link.descriptor.linkID() {
            try link.descriptor.replacePin(at: path)
        }
    }

    /// Ours, or a predecessor's. A namespace that ends leaves its link behind, and its number to another.
    private func present(_ inode: UInt64) throws(BPFError) -> BPFLink? {
        if let link = links[inode] { return link }
        return try BPFDescriptor.pinned(at: pins.link(inode)).map { BPFLink($0) }
    }

    private func unlink(_ inode: UInt64) throws(BPFError) {
        let link = try present(inode)
        links[inode] = nil
        try BPFFileSystem.remove(pins.link(inode))
        if let link, try link.networkState().namespace != 0 { try link.detach() }
    }

    /// Connections that exist never meet the program.
    package func release(_ pod: SteeredPod, keepingConnections: Bool) throws(DataplaneError) {
        do throws(BPFError) {
            try unlink(pod.namespace.id.inode)
            for address in pod.addresses.keys { try forget(address) }
        } catch { throw DataplaneError(error) }
    }

    private func forget(_ address: IPAddress) throws(BPFError) {
        try object.pods.delete(heddle_address(address))
        try object.listeners.delete(heddle_address(address))
        try removePorts(of: address) { _ in false }
    }

    package func releaseOthers(than pods: [SteeredPod]) throws(DataplaneError) {
        let namespaces = Set(pods.map(\.namespace.id.inode))
        let addresses = Set(pods.flatMap(\.addresses.keys))
        do throws(BPFError) {
            for inode in pins.linked where !namespaces.contains(inode) { try unlink(inode) }
            for (key, _) in try object.pods.entries() where !addresses.contains(key.value) { try forget(key.value) }
        } catch { throw DataplaneError(error) }
    }

    // MARK: Drift

    package func drift(of pod: SteeredPod) -> [Drift] {
        let inode = pod.namespace.id.inode
        let object = "steering of pod \(pod.name)"
        var drift: [Drift] = []
        if let link = links[inode], let state = try? link.networkState(), state.namespace == inode {
            if !ownPrograms.contains(state.program) {
                drift.append(Drift(object: object, detail: "its link runs program \(state.program), which is not ours"))
            }
            if (try? BPFDescriptor.pinned(at: pins.link(inode))?.linkID()) != (try? link.descriptor.linkID()) {
                drift.append(Drift(object: object, detail: "its link is not pinned at \(pins.link(inode))"))
            }
        } else {
            drift.append(Drift(object: object, detail: "is not attached"))
        }
        for address in pod.addresses.keys {
            if (try? self.object.pods.lookup(heddle_address(address))) == nil {
                drift.append(Drift(object: object, detail: "\(address) is not in the map of pods"))
            }
            if (try? self.object.listeners.lookup(heddle_address(address))) == nil {
                drift.append(Drift(object: object, detail: "\(address) has no listener for tunnels"))
            }
        }
        return drift
    }

    package func strangers(beside pod: SteeredPod) -> [Drift] {
        ((try? BPFLink.lookupPrograms(ofNetwork: pod.namespace.descriptor)) ?? [])
            .filter { !ownPrograms.contains($0) }
            .map { program in
                let detail =
                    "sk_lookup program \(program) of somebody else is attached to its network namespace, and may let "
                    + "plaintext pass (see `bpftool link`)"
                return Drift(object: "steering of pod \(pod.name)", detail: detail)
            }
    }

    /// SYNs so far, by what became of them.
    package func counters() throws(DataplaneError) -> [String: UInt64] {
        do throws(BPFError) {
            let sums = try object.counts.sums()
            let names = ["tunnel", "no_listener", "plaintext", "own", "probe", "refused", "unknown_refused"]
            return Dictionary(uniqueKeysWithValues: zip(names, sums))
        } catch { throw DataplaneError(error) }
    }
}

extension MeshPodProgram {
    fileprivate var steerPorts: [UInt16: heddle_steer_port] {
        var ports: [UInt16: heddle_steer_port] = [:]
        for port in Set(portModes.keys).union(probePorts) {
            let mode = portModes[port].map(\.steering) ?? UInt8(HEDDLE_STEER_AS_POD.rawValue)
            ports[port] = heddle_steer_port(
                mode: mode, is_probe: probePorts.contains(port) ? 1 : 0, unused: (0, 0, 0, 0, 0, 0))
        }
        return ports
    }
}

extension MeshPodProgram.Mode {
    fileprivate var steering: UInt8 {
        UInt8((self == .strict ? HEDDLE_STEER_STRICT : HEDDLE_STEER_PERMISSIVE).rawValue)
    }
}
