/// Takes everything of ours out of the kernel, with the agent dead: only pins in our own directories, by name.
import BPF
package import DataplaneIR
import Glibc

package enum BPFCleanup {
    /// What older agents pinned besides.
    private static let formerHooks = ["sock_release"]
    private static let formerMaps = ["udp_sockets"]
    /// By these the L7 proxy learns what a client had dialled, when it has taken the connection.
    private static let told: Set = [CgroupHook.sockOps, .getsockopt]
    /// For connections under way to the proxy when the last was steered there.
    private static func waitForProxied() { usleep(250_000) }

    /// Our programs that are attached, as long as they are pinned.
    package static func inForce(bpffs: String) -> [String] {
        let pins = BPFPins(root: bpffs)
        guard BPFFileSystem.isBPF(pins.links) else { return [] }
        return BPFFileSystem.names(in: pins.links).filter { CgroupHook(rawValue: $0) != nil }.map { "link \($0)" }
    }

    /// Unpinning the last reference detaches a link and frees a map. Returns what was removed, as paths. `settle` is
    /// called in between, where a proxy was: nothing more is steered, and it still hears what those on their way want.
    @discardableResult
    package static func run(
        bpffs: String, settle: (() -> Void)? = nil
    ) throws(DataplaneError) -> [String] {
        let pins = BPFPins(root: bpffs)
        // Forward translation ends before the reverse one: no reply is seen from a bare backend.
        let steering = CgroupHook.all.reversed().filter { !told.contains($0) }.map(\.rawValue) + formerHooks
        func links(_ hooks: [String]) -> [String] {
            hooks.flatMap { ["\(pins.links)/\($0)", "\(pins.links)/\($0)_new"] }
        }
        let maps = [pins.maps, pins.staging].flatMap { directory in
            (BPFMaps.names + Self.formerMaps).map { "\(directory)/\($0)" }
        }
        do throws(BPFError) {
            var removed = try OwnSockets.removePins(bpffs: bpffs)
            func remove(_ paths: [String]) throws(BPFError) {
                for path in paths where BPFFileSystem.exists(path) {
                    try BPFFileSystem.remove(path)
                    removed.append(path)
                }
            }
            try remove(links(steering))
            let answers = links(told.map(\.rawValue)).filter { BPFFileSystem.exists($0) }
            if !answers.isEmpty { (settle ?? waitForProxied)() }
            try remove(answers + maps)
            removed += try SteerPins(bpffs: bpffs).removeAll()
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
