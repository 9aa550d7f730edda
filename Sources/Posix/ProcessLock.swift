/// A file that one process at a time may hold, for as long as it lives.
import Glibc

/// A POSIX record lock: it ends with the process even if a child still has the descriptor, and the kernel says who
/// holds it. Its file must not be opened a second time by this process, whose closing would end it.
package struct ProcessLock: Sendable {
    package let path: String
    private let descriptor: Int32

    package enum Failure: Error, Equatable {
        /// nil: of a pid namespace that we do not see.
        case held(by: Int32?)
        case impossible(PosixError)
    }

    package init(_ path: String) throws(Failure) {
        self.path = path
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw .impossible(.errno("open the lock \(path)")) }
        while true {
            var lock = flock()
            lock.l_type = Int16(F_WRLCK)
            if fcntl(descriptor, F_SETLK, &lock) == 0 { return }
            guard errno == EAGAIN || errno == EACCES else {
                let error = PosixError.errno("lock \(path)")
                close(descriptor)
                throw .impossible(error)
            }
            guard fcntl(descriptor, F_GETLK, &lock) == 0, lock.l_type != Int16(F_UNLCK) else { continue }
            close(descriptor)
            throw .held(by: lock.l_pid > 0 ? lock.l_pid : nil)
        }
    }
}
