/// A directory of manifests as a source of cluster objects: everything in it at the start, then every change as it
/// happens. One thread of its own sleeps in `poll` on inotify and does all the work.
package import Cluster
import Glibc
import Posix
import Synchronization

package final class ManifestsSource: Sendable {
    /// What the source tells, in order. Ends after `stop`.
    package let events: AsyncStream<SourceEvent>
    /// Closing it wakes the thread to its end.
    private let wakeWriter: Int32
    private let thread: Mutex<JoinableThread?>

    /// Starts reading `directory`, which need not exist yet. Fails if the kernel grants no file descriptors or thread.
    /// `keepsPodIdentities`: as in `ObjectDecoder.Options`.
    package init(
        directory: String, maximumFileBytes: Int = 64 << 20, keepsPodIdentities: Bool = false
    ) throws(SourceError) {
        var sockets: [Int32] = [-1, -1]
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, type, 0, &sockets) == 0 else {
            throw SourceError("cannot create a pair of sockets: \(message(errno)); raise the limit of open files")
        }
        let (wakeReader, writer) = (sockets[0], sockets[1])
        let (stream, continuation) = AsyncStream<SourceEvent>.makeStream()
        let start = ThreadStart(
            ManifestsLoop(
                directory: ManifestDirectory(path: directory, maximumBytes: maximumFileBytes),
                watch: DirectoryWatch(path: directory), wake: wakeReader, continuation: continuation,
                keepsPodIdentities: keepsPodIdentities))
        do throws(PosixError) {
            thread = Mutex(try JoinableThread("heddle-source") { start.run() })
        } catch {
            close(writer)
            throw SourceError("cannot start a thread: \(error.reason); raise the limit of processes")
        }
        events = stream
        wakeWriter = writer
    }
    deinit { stop() }

    /// Ends the stream and the thread; returns when the thread is gone.
    package func stop() {
        thread.withLock { thread in
            guard let running = thread.take() else { return }
            close(wakeWriter)
            running.join()
        }
    }
}

package struct SourceError: Error, CustomStringConvertible {
    package let description: String
    init(_ description: String) { self.description = description }
}

/// Carries the loop to its thread.
// @unchecked: from then on only that thread touches it.
private final class ThreadStart: @unchecked Sendable {
    private var loop: ManifestsLoop?

    init(_ loop: consuming ManifestsLoop) { self.loop = consume loop }

    func run() {
        guard var loop = loop.take() else { return }
        loop.run()
    }
}
