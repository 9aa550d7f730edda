/// A network namespace held open by a file descriptor: find one, make one, run code inside.
import CLinux
import Glibc
import Posix

package final class NetworkNamespace: Sendable {
    /// Two namespaces are the same one exactly when their IDs are equal; the number is not used again while a
    /// descriptor is open.
    package struct ID: Hashable, Sendable {
        let device: UInt64
        package let inode: UInt64
    }

    /// Where `ip netns` keeps named namespaces.
    package static let directory = "/run/netns"

    package let descriptor: Int32
    package let id: ID

    /// Takes the descriptor over.
    private init(descriptor: Int32, _ operation: @autoclosure () -> String) throws(NetnsError) {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else {
            let code = errno
            close(descriptor)
            throw NetnsError(operation(), code: code)
        }
        self.descriptor = descriptor
        self.id = ID(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
    }
    deinit { close(descriptor) }

    package convenience init(path: String) throws(NetnsError) {
        let operation = "open network namespace \(path)"
        let descriptor = try check(open(path, O_RDONLY | O_CLOEXEC), operation)
        try self.init(descriptor: descriptor, operation)
    }
    /// The namespace a process lives in (its main thread's).
    package convenience init(pid: Int32) throws(NetnsError) { try self.init(path: "/proc/\(pid)/ns/net") }

    /// The calling thread's own.
    package static func current() throws(NetnsError) -> NetworkNamespace {
        try NetworkNamespace(path: "/proc/thread-self/ns/net")
    }

    /// A fresh one without a name, with loopback up. It lives as long as this object, sockets opened in it, or
    /// processes in it.
    package static func anonymous() throws(NetnsError) -> NetworkNamespace {
        try onFreshThread(refusal: refused) { () throws(NetnsError) in
            try enterFresh("create a network namespace")
            return try current()
        }
    }

    /// A fresh one under `/run/netns`, with loopback up, as `ip netns add` makes it. Lives until `remove(named:)`.
    package static func create(named name: String) throws(NetnsError) -> NetworkNamespace {
        let path = "\(directory)/\(name)"
        try directoryIsReady.get()
        let file = try check(
            open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0), "create network namespace file \(path)")
        close(file)
        do throws(NetnsError) {
            return try onFreshThread(refusal: refused) { () throws(NetnsError) in
                try enterFresh("create network namespace \(name)")
                try check(clinux_bind_mount("/proc/thread-self/ns/net", path), "mount network namespace \(path)")
                return try current()
            }
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Once a process: doing it twice at a time would mount the directory over itself.
    private static let directoryIsReady: Result<Void, NetnsError> = {
        mkdir(directory, 0o755)
        guard clinux_share_mounts(directory) == 0 else {
            return .failure(NetnsError("make \(directory) a shared mount", code: errno))
        }
        return .success(())
    }()

    /// Takes the name away; the namespace ends when nothing uses it any more. Does nothing when there is no such name.
    package static func remove(named name: String) throws(NetnsError) {
        let path = "\(directory)/\(name)"
        if clinux_unmount(path) != 0, errno != EINVAL, errno != ENOENT {
            throw NetnsError("unmount network namespace \(path)", code: errno)
        }
        if unlink(path) != 0, errno != ENOENT { throw NetnsError("remove \(path)", code: errno) }
    }

    private static func refused(_ error: PosixError) -> NetnsError { NetnsError("start a thread", code: error.code) }

    private static func enterFresh(_ operation: String) throws(NetnsError) {
        try check(clinux_unshare_network(), operation)
        try check(clinux_loopback_up(), "set up loopback")
    }

    /// Runs `body` inside the namespace, on a thread of its own, and waits for it. Sockets opened there stay in the
    /// namespace when used elsewhere later. `refusal` makes the error for not getting in.
    package func run<R: ~Copyable, E: Error>(
        refusal: (NetnsError) -> E, _ body: () throws(E) -> R
    ) throws(E) -> R {
        try onFreshThread(refusal: { refusal(Self.refused($0)) }) { () throws(E) in
            guard clinux_enter_network(descriptor) == 0 else {
                throw refusal(NetnsError("enter network namespace \(id.inode)", code: errno))
            }
            return try body()
        }
    }
    package func run<R: ~Copyable>(_ body: () throws -> R) throws -> R {
        try run(refusal: { $0 as any Error }, body)
    }
}
