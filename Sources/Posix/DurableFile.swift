/// A file that is replaced as a whole: a crash at any moment leaves the old contents or the new ones.
import Glibc

/// New contents are written beside it, to `PATH.new`, synced, and renamed into its place. One writer at a time.
package struct DurableFile: Sendable {
    package let path: String
    package init(_ path: String) { self.path = path }

    /// `contents` hands over the new contents in as many pieces as it likes; they are readable for the owner only.
    /// After an error the old ones are there, and nothing beside them.
    package func replace(
        _ contents: (_ put: ([UInt8]) throws(PosixError) -> Void) throws(PosixError) -> Void
    ) throws(PosixError) {
        let temporary = path + ".new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .errno("make \(temporary)") }
        do throws(PosixError) {
            defer { close(descriptor) }
            try contents { (bytes) throws(PosixError) in
                let outcome = writeAll(bytes, to: descriptor)
                guard outcome.code == 0 else { throw .errno("write \(temporary)", outcome.code) }
            }
            guard fsync(descriptor) == 0 else { throw .errno("sync \(temporary)") }
            guard rename(temporary, path) == 0 else { throw .errno("rename \(temporary)") }
        } catch {
            unlink(temporary)
            throw error
        }
    }
}
