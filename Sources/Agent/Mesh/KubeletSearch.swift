/// Finds kubelet, whose probes reach pods that refuse everybody else in the clear. It is a process of that name, or a
/// part of another program (k3s, MicroK8s), which is told by the port of its API. Neither proves anything: a pod calls
/// its processes what it likes, and listens where it likes if it is on the node's network. But no pod has processes of
/// root with the mounts of the node or of the agent.
import Glibc
import LinuxDataplane
import Netns
import Posix

struct KubeletSearch {
    static let name = "kubelet"
    /// Of its API, where nobody chose another one.
    static let port: UInt16 = 10250
    /// A walk through all processes takes some milliseconds.
    private static let pause = Duration.seconds(30)
    private var known: NodeProcess?
    private var next = ContinuousClock.now

    /// Its process; nil: it is not on this node, or in another pid namespace. `isOfNode`: not of another node's, where
    /// one machine is several. Looks at ports of this thread's network namespace.
    mutating func process(isOfNode: (Int32) throws -> Bool) rethrows -> Int32? {
        if let known, NodeProcess(known.pid) == known { return known.pid }
        known = nil
        guard next <= .now else { return nil }
        next = .now + Self.pause
        let processes = directoryNames("/proc").compactMap { Int32($0).flatMap(NodeProcess.init) }
        known =
            try processes.first { try $0.name == Self.name && isOfNode($0.pid) } ?? Self.listener(processes, isOfNode)
        return known?.pid
    }

    private static func listener(
        _ processes: [NodeProcess], _ isOfNode: (Int32) throws -> Bool
    ) rethrows -> NodeProcess? {
        let owners = SocketOwner.listening(onTCP: port, among: processes.map(\.pid))
        return try owners.first { try isOfNode($0.pid) }.flatMap { NodeProcess($0.pid) }
    }
}

/// A process of root that sees the files of the node, or those of the agent.
private struct NodeProcess: Equatable {
    let pid: Int32
    let name: String

    init?(_ pid: Int32) {
        guard let mounts = Self.mounts("\(pid)"), mounts == Self.mounts("1") || mounts == Self.mounts("self"),
            let status = readSmallFile("/proc/\(pid)/status"), status.contains("\nUid:\t0\t0\t"),
            let name = readSmallFile("/proc/\(pid)/comm")
        else { return nil }
        self.pid = pid
        self.name = String(name.dropLast())
    }

    private static func mounts(_ process: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 64)
        let count = readlink("/proc/\(process)/ns/mnt", &buffer, buffer.count)
        return count > 0 ? String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }
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
