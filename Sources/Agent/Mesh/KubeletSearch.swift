/// Finds kubelet, whose probes reach pods that refuse everybody else in the clear. Its name proves nothing: a pod may
/// call its processes what it likes. But no pod has the mounts of the node or of the agent.
import Glibc
import Netns
import Posix

struct KubeletSearch {
    /// A walk through all processes takes some milliseconds.
    private static let pause = Duration.seconds(30)
    private var known: Int32?
    private var next = ContinuousClock.now

    /// Its process; nil: it is not on this node, or in another pid namespace. `isOfNode`: not of another node's, where
    /// one machine is several.
    mutating func process(isOfNode: (Int32) throws -> Bool) rethrows -> Int32? {
        if let known, Self.isKubelet(known) { return known }
        known = nil
        guard next <= .now else { return nil }
        next = .now + Self.pause
        known = try Self.processes().first { try Self.isKubelet($0) && isOfNode($0) }
        return known
    }

    private static func isKubelet(_ pid: Int32) -> Bool {
        guard readSmallFile("/proc/\(pid)/comm") == "kubelet\n", let mounts = mounts("\(pid)") else { return false }
        return mounts == self.mounts("1") || mounts == self.mounts("self")
    }
    private static func mounts(_ process: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 64)
        let count = readlink("/proc/\(process)/ns/mnt", &buffer, buffer.count)
        return count > 0 ? String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }

    private static func processes() -> [Int32] { directoryNames("/proc").compactMap { Int32($0) } }
}

/// In which cgroups processes are. Where one was found it is looked for first: a walk reads a file for each container.
struct ProcessPlaces {
    private let tree: CgroupTree
    private var known: [Int32: String] = [:]

    init(cgroup: String) throws(NetnsError) { tree = try CgroupTree(path: cgroup) }

    /// nil: it is not below the cgroup, or is gone.
    mutating func directory(of process: Int32) throws(NetnsError) -> String? {
        if let place = known[process], CgroupTree.holds(place, process) { return place }
        // Processes come and go: what is remembered of the dead is forgotten now and then.
        if known.count > 64 { known = [:] }
        known[process] = try tree.directory(of: process)
        return known[process]
    }
}
