/// The snapshot's file. Written beside and renamed, so that a crash at any moment leaves the old file or the new one.
import Cluster
import Glibc
import Posix

/// On a thread of its own: encoding a large cluster takes a second, and syncing a file may take longer.
actor SnapshotStore {
    private let thread: KernelThread
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private let file: SnapshotFile

    init(_ file: SnapshotFile) throws(PosixError) {
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
        let header = SnapshotHeader(node: node, source: source, writtenAt: time)
        do throws(PosixError) {
            try DurableFile(path).replace { (put) throws(PosixError) in
                try SnapshotFormat.write(header, objects, to: put)
            }
        } catch {
            throw SnapshotError(error.description)
        }
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
        do throws(PosixError) { return try readFile(path, upTo: limit) } catch {
            if error.code == ENOENT { return nil }
            throw SnapshotError("cannot be read: \(error.reason)")
        }
    }
}
