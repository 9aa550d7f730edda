/// The kernel without the agent: reading what Heddle put there, and removing it. The only place here that names the
/// dataplanes.
import DataplaneIR
import LinuxDataplane
import Observation

enum KernelAccess {
    /// Every dataplane's state that is there, eBPF first.
    static func dumps(bpffs: String) throws(CommandFailure) -> [KernelDump] {
        do throws(DataplaneError) {
            return [try BPFDump.read(bpffs: bpffs), try NftablesDump.read()].compactMap { $0 }
        } catch {
            throw CommandFailure("\(error)")
        }
    }

    /// What was removed, in words. One dataplane's failure does not keep the other in the kernel.
    static func cleanup(bpffs: String) throws(CommandFailure) -> [String] {
        var removed: [String] = []
        var failures: [String] = []
        do throws(DataplaneError) {
            removed += try BPFCleanup.run(bpffs: bpffs)
        } catch {
            failures.append(error.description)
        }
        do throws(DataplaneError) {
            removed += try NftablesCleanup.run()
        } catch {
            failures.append(error.description)
        }
        // Those that cannot be reached end with their pods.
        let pods = NftablesSteering.remove(PodNamespaces(cgroup: nil))
        if pods > 0 { removed.append("the mesh's tables in \(pods) network namespaces of pods") }
        guard failures.isEmpty else { throw CommandFailure(failures.joined(separator: "; ")) }
        return removed
    }

    /// What kube-proxy left: what was removed and what could not be, in words.
    static func cleanupKubeProxy() throws(CommandFailure) -> (removed: [String], left: [String]) {
        do throws(DataplaneError) {
            return try KubeProxyLeftovers.find().remove()
        } catch {
            throw CommandFailure("\(error)")
        }
    }
}
