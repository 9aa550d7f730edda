/// The mesh keeper of an agent: with its dataplane and its cgroup, or what is left of one when the mesh is off.
import DataplaneIR
import Glibc
import HandOverLink
import LinuxDataplane
import Logging
import Posix

extension MeshKeeper {
    /// That there was one is remembered: pods are looked at only where there may be something.
    private static func mark(_ configuration: AgentConfiguration) -> String {
        "\(configuration.stateDirectory)/mesh"
    }

    func start(_ configuration: AgentConfiguration, isEBPF: Bool) throws(PosixError) {
        // What a pod sends to itself passes every mode, and no mark of the proxy's is needed.
        sockets.connectInside()
        close(open(Self.mark(configuration), O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
        let bpffs = configuration.bpffs
        let cgroup = DataplaneFactory.cgroup(configuration)
        try start { () throws(DataplaneError) in
            let namespaces = PodNamespaces(cgroup: cgroup)
            guard isEBPF else {
                // What this agent steered by eBPF before goes on until its own is there.
                _ = try? BPFSteering.remove(bpffs: bpffs)
                _ = try? OwnSockets.remove(bpffs: bpffs)
                return Kernel(
                    steering: NftablesSteering(namespaces: namespaces), namespaces: namespaces,
                    clients: { _, _ in true })
            }
            NftablesSteering.remove(namespaces)
            let clients = MeshClients(bpffs: bpffs)
            return Kernel(
                steering: try BPFSteering(bpffs: bpffs), namespaces: namespaces,
                clients: { (found, missing) throws(DataplaneError) in try clients.set(found, keeping: missing) })
        }
    }

    /// Of an agent that had a mesh: its pods take plaintext again, and no tunnels.
    static func removeLeftovers(_ configuration: AgentConfiguration, log: Logger) {
        let mark = mark(configuration)
        guard access(mark, F_OK) == 0 else { return }
        do throws(DataplaneError) {
            _ = try MeshClients(bpffs: configuration.bpffs).set([:])
            _ = try BPFSteering.remove(bpffs: configuration.bpffs)
            _ = try OwnSockets.remove(bpffs: configuration.bpffs)
        } catch { log.warning("what steered pods of the mesh is not all removed: \(error)") }
        NftablesSteering.remove(PodNamespaces(cgroup: DataplaneFactory.cgroup(configuration)))
        unlink(mark)
    }
}
