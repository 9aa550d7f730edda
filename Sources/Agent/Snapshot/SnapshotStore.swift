/// The snapshot's file. Written beside and renamed, so that a crash at any moment leaves the old file or the new one.
import Cluster
import Glibc
import Netns

/// On a thread of its own: encoding a large cluster takes a second, and syncing a file may take longer.
actor SnapshotStore {
    private let thread: KernelThread
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private let file: SnapshotFile

    init(_ file: SnapshotFile) throws(NetnsError) {
        thread = try KernelThread(name: "heddle-snapshot")
        self.file = file
    }

    /// A sentence when it failed.
    func write(_ state: ClusterState, at time: Double) -> String? {
        do throws(SnapshotError) {
            try file.write(state.objects, at: time)
            return nil
        } catch {
            return
                "the snapshot \(file.path) could not be written: \(error); until it can, a node that starts while its "
                + "API server is away serves what the last good one says, or nothing"
        }
    }
}

struct SnapshotFile: Sendable {
    /// Larger than any cluster's: a device or a wrong file ends here.
    private static let limit = 1 << 30

    let path: String
    let node: String
    let source: String

    init(directory: String, node: String, source: String) {
        path = directory + "/last-good.snapshot"
        self.node = node
        self.source = source
    }

    func write(_ objects: [ClusterObject], at time: Double) throws(SnapshotError) {
        let temporary = path + ".new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .system("cannot make \(temporary)") }
        do throws(SnapshotError) {
            defer { close(descriptor) }
            let header = SnapshotHeader(node: node, source: source, writtenAt: time)
            try SnapshotFormat.write(header, objects) { (bytes) throws(SnapshotError) in try put(bytes, descriptor) }
            guard fsync(descriptor) == 0 else { throw SnapshotError.system("cannot sync \(temporary)") }
        } catch {
            unlink(temporary)
            throw error
        }
        guard rename(temporary, path) == 0 else { throw .system("cannot rename \(temporary)") }
    }

    /// nil: there is none.
    func read() throws(SnapshotError) -> Snapshot? {
        guard let bytes = try bytes(upTo: Self.limit) else { return nil }
        guard bytes.count < Self.limit else { throw SnapshotError("it is larger than 1 GiB") }
        return try SnapshotFormat.read(bytes, node: node, source: source)
    }

    /// In seconds since 1970; nil: there is no file that can be used.
    var writtenAt: Double? {
        guard let bytes = try? bytes(upTo: 4096) else { return nil }
        return try? SnapshotFormat.readHeader(bytes, node: node, source: source).writtenAt
    }

    /// The file's first bytes; nil: there is none.
    private func bytes(upTo limit: Int) throws(SnapshotError) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw .system("cannot be opened")
        }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: min(limit, 1 << 20))
        while bytes.count < limit {
            let count = Glibc.read(descriptor, &chunk, min(chunk.count, limit - bytes.count))
            guard count >= 0 else { throw .system("cannot be read") }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        return bytes
    }

    private func put(_ bytes: [UInt8], _ descriptor: Int32) throws(SnapshotError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 else { throw .system("cannot be written") }
            rest = rest.dropFirst(count)
        }
    }
}

extension SnapshotError {
    fileprivate static func system(_ what: String) -> SnapshotError {
        SnapshotError("\(what): \(String(cString: strerror(errno)))")
    }
}
