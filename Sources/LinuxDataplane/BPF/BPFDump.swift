/// What the pinned maps hold, read without the agent.
import Addressing
import BPF
import CDataplaneABI
package import DataplaneIR
package import Observation

package enum BPFDump {
    /// nil when nothing of ours is pinned there.
    package static func read(bpffs: String) throws(DataplaneError) -> KernelDump? {
        do throws(BPFError) {
            guard let maps = try BPFMaps.pinned(in: BPFPins(root: bpffs).maps) else { return nil }
            return try dump(maps)
        } catch {
            throw DataplaneError(error)
        }
    }

    /// Counts by reason; nil when nothing of ours is pinned there.
    package static func counters(bpffs: String) throws(DataplaneError) -> [String: UInt64]? {
        let maps: BPFMaps?
        do throws(BPFError) {
            maps = try BPFMaps.pinned(in: BPFPins(root: bpffs).maps)
        } catch {
            throw DataplaneError(error)
        }
        guard let maps else { return nil }
        return try BPFDataplane.counters(maps.reasons)
    }

    private static func dump(_ maps: BPFMaps) throws(BPFError) -> KernelDump {
        let state = try KernelState(reading: maps)
        var entries = 0
        var frontends: [KernelDump.Frontend] = []
        for service in state.services.sorted(by: { $0.program.id < $1.program.id }) {
            entries += service.program.backends.count + 1
            frontends += service.program.frontends.map { KernelDump.Frontend($0, of: service.program) }
        }
        let frontendCount = frontends.count + state.liveAddresses.count + state.strayFrontends.count
        let counts = [
            "frontends": frontendCount, "services": state.services.count,
            "service_names": state.services.count + state.strayNames.count, "backends": entries,
            "node_addresses": try maps.nodeAddresses.entries().count,
            "service_cidrs": try maps.serviceCIDRs.keys().count,
            "mesh_addresses": try maps.meshAddresses.keys().count,
        ]
        return KernelDump(
            node: text(maps.meta.pointee.node_name), dataplane: "ebpf",
            generation: maps.meta.pointee.plan_generation, frontends: frontends, maps: try maps.usage(counts))
    }
}
