/// The last configuration on disk, for a start while the agent is away: one frame of the hand-over, with its checksum,
/// written beside the old one and renamed into its place.
import Glibc
import HandOver
package import RouteIR

package struct LastConfiguration: Sendable {
    package struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
        package let description: String
        fileprivate init(_ description: String) { self.description = description }
    }

    package let path: String
    package init(path: String) { self.path = path }

    /// nil: there is none yet.
    package func read() throws(Failure) -> ProxySnapshot? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw failure("read", errno)
        }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0 { throw failure("read", errno) }
            if count == 0 { break }
            bytes += chunk[..<count]
            guard bytes.count <= HandOverFrame.maximumLength + HandOverFrame.headerLength else { break }
        }
        do throws(WireError) {
            if let (message, _) = try HandOverFrame.decode(bytes.span), case .update(let update) = message,
                let snapshot = ProxySnapshot(node: update.node).applying(update)
            {
                return snapshot
            }
        } catch {
            throw Failure("the configuration in \(path) cannot be used: \(error); starting without one")
        }
        throw Failure("the configuration in \(path) is not whole; starting without one")
    }

    package func write(_ snapshot: ProxySnapshot) throws(Failure) {
        let bytes = HandOverFrame.encode(.update(snapshot.update(since: nil)))
        guard bytes.count - HandOverFrame.headerLength <= HandOverFrame.maximumLength else {
            throw Failure(
                "the configuration has \(bytes.count) bytes, more than the \(HandOverFrame.maximumLength) that \(path) "
                    + "may hold: it keeps the last one that fitted")
        }
        let temporary = path + ".new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure("write", errno) }
        let isWritten = bytes.withUnsafeBytes { raw in
            var written = 0
            while written < raw.count {
                let count = Glibc.write(descriptor, raw.baseAddress.map { $0 + written }, raw.count - written)
                guard count > 0 else { return false }
                written += count
            }
            return fsync(descriptor) == 0
        }
        let code = errno
        close(descriptor)
        guard isWritten else { throw failure("write", code) }
        guard rename(temporary, path) == 0 else { throw failure("write", errno) }
    }

    private func failure(_ verb: String, _ code: Int32) -> Failure {
        Failure(
            "cannot \(verb) the configuration on disk, \(path): \(String(cString: strerror(code))); "
                + "pass another --state-file")
    }
}
