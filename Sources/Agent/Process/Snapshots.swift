/// The snapshot's way between the control actor, which must not wait, and the file.
import CLinux
import Cluster
import DataplaneIR
import Glibc
import LinuxDataplane
import Logging
import Posix
import Observation
import Synchronization

struct Snapshots: Sendable {
    /// Why the last one could not be written; nil: it was.
    private final class Problem: Sendable {
        let text = Mutex<String?>(nil)
    }
    private let store: SnapshotStore
    private let problem = Problem()
    private let log: Logger
    private let states: AsyncStream<ClusterState>
    private let continuation: AsyncStream<ClusterState>.Continuation
    private let end: (stream: AsyncStream<Void>, continuation: AsyncStream<Void>.Continuation)
    let access: SnapshotAccess

    init(_ configuration: AgentConfiguration, source: String, log: Logger) throws(PosixError) {
        let file = SnapshotFile(
            directory: configuration.stateDirectory, node: configuration.nodeName, source: source)
        store = try SnapshotStore(file)
        self.log = log
        // Only the newest state is worth writing.
        let (states, continuation) = AsyncStream<ClusterState>.makeStream(bufferingPolicy: .bufferingNewest(1))
        (self.states, self.continuation) = (states, continuation)
        end = AsyncStream.makeStream()
        var access = SnapshotAccess()
        access.save = { continuation.yield($0) }
        let problem = problem
        access.problem = { problem.text.withLock(\.self) }
        access.load = { () throws(SnapshotError) in try file.read() }
        access.writtenAt = { file.writtenAt }
        access.kernelHoldsServices = { Self.kernelHoldsServices(bpffs: configuration.bpffs) }
        self.access = access
    }

    /// Until `flush`.
    func run() async {
        for await state in states { await write(state) }
        end.continuation.finish()
    }

    /// Returns when what was handed over is written.
    func flush() async {
        continuation.finish()
        for await _ in end.stream {}
    }

    private func write(_ state: ClusterState) async {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        let result = await store.write(state, at: Double(time.tv_sec))
        let isNews = problem.text.withLock { old in
            defer { old = result }
            return old != result
        }
        guard isNews else { return }
        if let result { log.warning("\(result)") } else { log.info("snapshots can be written again") }
    }

    private static func kernelHoldsServices(bpffs: String) -> Bool {
        // What cannot be read is left alone as well.
        do throws(DataplaneError) {
            let dumps = [try BPFDump.read(bpffs: bpffs), try NftablesDump.read()]
            return dumps.contains { !($0?.frontends.isEmpty ?? true) }
        } catch { return true }
    }
}
