/// Takes everything of ours out of the kernel, with the agent dead: only pins in our own directories, by name.
import BPF
package import DataplaneIR

package enum BPFCleanup {
    /// What older agents pinned besides.
    private static let formerHooks = ["sock_release"]
    private static let formerMaps = ["udp_sockets"]

    /// Our programs that are attached, as long as they are pinned.
    package static func inForce(bpffs: String) -> [String] {
        let pins = BPFPins(root: bpffs)
        guard BPFFileSystem.isBPF(pins.links) else { return [] }
        return BPFFileSystem.names(in: pins.links).filter { CgroupHook(rawValue: $0) != nil }.map { "link \($0)" }
    }

    /// Unpinning the last reference detaches a link and frees a map. Returns what was removed, as paths.
    @discardableResult
    package static func run(bpffs: String) throws(DataplaneError) -> [String] {
        let pins = BPFPins(root: bpffs)
        // Forward translation ends before the reverse one: no reply is seen from a bare backend.
        let hooks = CgroupHook.all.reversed().map(\.rawValue) + Self.formerHooks
        let links = hooks.flatMap { ["\(pins.links)/\($0)", "\(pins.links)/\($0)_new"] }
        let maps = [pins.maps, pins.staging].flatMap { directory in
            (BPFMaps.names + Self.formerMaps).map { "\(directory)/\($0)" }
        }
        do throws(BPFError) {
            var removed: [String] = []
            for path in links + maps where BPFFileSystem.exists(path) {
                try BPFFileSystem.remove(path)
                removed.append(path)
            }
            for directory in [pins.links, pins.maps, pins.staging, pins.root] where BPFFileSystem.isBPF(directory) {
                // Something of somebody else in it: then it stays.
                if BPFFileSystem.names(in: directory).isEmpty, !BPFFileSystem.isMountPoint(directory) {
                    try BPFFileSystem.removeDirectory(directory)
                    removed.append(directory)
                }
            }
            return removed
        } catch {
            throw DataplaneError(error)
        }
    }
}
