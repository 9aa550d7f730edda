/// The last configuration on disk, for a start while the agent is away: one frame of the hand-over, with its checksum,
/// replaced as a whole.
import Glibc
import HandOver
import Posix
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
        let bytes: [UInt8]
        do throws(PosixError) {
            bytes = try readFile(path, upTo: HandOverFrame.headerLength + HandOverFrame.maximumLength)
        } catch {
            if error.code == ENOENT { return nil }
            throw failure("read", error)
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
        do throws(PosixError) { try DurableFile(path).replace { (put) throws(PosixError) in try put(bytes) } } catch {
            throw failure("write", error)
        }
    }

    private func failure(_ verb: String, _ error: PosixError) -> Failure {
        Failure(
            "cannot \(verb) the configuration on disk, \(path): \(error.reason); pass another --state-file")
    }
}
