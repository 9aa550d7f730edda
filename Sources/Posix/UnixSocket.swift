/// Unix sockets by path: the one place that makes their addresses, so that a path that is too long is refused
/// everywhere.
import Glibc

package enum UnixSocket {
    /// `sun_path` without its last byte, which ends it.
    package static let longestPath = 107

    package enum Kind: Sendable {
        case stream
        /// What is sent in one piece is received in one.
        case packets

        fileprivate var number: Int32 { Int32((self == .stream ? SOCK_STREAM : SOCK_SEQPACKET).rawValue) }
    }

    /// A connected descriptor.
    package static func connect(_ path: String, _ kind: Kind = .stream) throws(PosixError) -> Int32 {
        let address = try address(path)
        let descriptor = try make(kind)
        let result = withPointer(address) { Glibc.connect(descriptor, $0, $1) }
        guard result == 0 else {
            let error = PosixError.errno("connect to \(path)")
            close(descriptor)
            throw error
        }
        return descriptor
    }

    /// Takes the path for a socket that nobody can connect to until somebody listens on it. A socket of that name on
    /// which nobody listens is replaced; anything else there is left alone.
    package static func bind(
        _ path: String, _ kind: Kind = .stream, mode: UInt32
    ) throws(PosixError) -> BoundUnixSocket {
        let address = try address(path)
        try removeLeftover(path, kind)
        let descriptor = try make(kind)
        // Before it has a name: Linux gives the name the mode of the socket, so at no moment is it open to others.
        // Nothing is to be taken off it; what else is made at this moment says its mode itself.
        let mask = umask(0)
        defer { umask(mask) }
        let isBound =
            fchmod(descriptor, mode) == 0
            ? withPointer(address) { Glibc.bind(descriptor, $0, $1) } == 0 : false
        var status = stat()
        guard isBound, stat(path, &status) == 0 else {
            let error = PosixError.errno("make the socket \(path)")
            close(descriptor)
            throw error
        }
        return BoundUnixSocket(path: path, descriptor: descriptor, file: FileIdentity(status))
    }

    private static func make(_ kind: Kind) throws(PosixError) -> Int32 {
        let descriptor = socket(AF_UNIX, kind.number | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw .errno("make a Unix socket") }
        return descriptor
    }

    private static func removeLeftover(_ path: String, _ kind: Kind) throws(PosixError) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw PosixError("\(path) is there and is no socket", code: EEXIST)
        }
        if let descriptor = try? connect(path, kind) {
            close(descriptor)
            throw PosixError("somebody answers on \(path)", code: EADDRINUSE)
        }
        unlink(path)
    }

    /// Who is at the other end; nil: the kernel does not say.
    package static func peer(of descriptor: Int32) -> PeerCredentials? {
        var peer = PeerCredentials(pid: 0, user: 0, group: 0)
        var size = socklen_t(MemoryLayout<PeerCredentials>.size)
        return getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer : nil
    }

    /// Whoever sends waits for room for so long, and not longer.
    package static func limitSending(_ descriptor: Int32, seconds: Int) {
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    private static func address(_ path: String) throws(PosixError) -> sockaddr_un {
        let bytes = Array(path.utf8)
        guard (1...longestPath).contains(bytes.count) else {
            throw PosixError(
                "the path \(path) has \(bytes.count) bytes; the path of a Unix socket has 1 to \(longestPath)",
                code: ENAMETOOLONG)
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return address
    }

    private static func withPointer<Result>(
        _ address: sockaddr_un, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}

/// A socket with a path; `descriptor` belongs to whoever listens on it.
package struct BoundUnixSocket: Hashable, Sendable {
    package let path: String
    package let descriptor: Int32
    private let file: FileIdentity

    fileprivate init(path: String, descriptor: Int32, file: FileIdentity) {
        self.path = path
        self.descriptor = descriptor
        self.file = file
    }

    /// Lets a group connect as well.
    package func admit(group: UInt32) throws(PosixError) {
        // As long as nobody listens the path cannot be anybody else's: its name was free and the socket is new.
        guard chown(path, UInt32.max, group) == 0, chmod(path, 0o660) == 0 else {
            throw .errno("give the socket \(path) to group \(group)")
        }
    }

    /// Removes the path, unless somebody else's socket has taken it meanwhile.
    package func removeFile() {
        if FileIdentity(path: path) == file { unlink(path) }
    }
}

/// Who is at the other end of a connected Unix socket: `struct ucred`, which SO_PEERCRED fills.
package struct PeerCredentials: Sendable {
    /// 0: of a pid namespace that we do not see.
    package let pid: Int32
    package let user: UInt32
    package let group: UInt32
}

/// Which file it is, whatever it is called.
package struct FileIdentity: Hashable, Sendable, CustomStringConvertible {
    private let device: UInt64
    private let inode: UInt64
    /// The number of a file that is gone is given to the next one.
    private let seconds: Int
    private let nanoseconds: Int

    package var description: String { "\(device):\(inode) of \(seconds).\(nanoseconds)" }

    init(_ status: stat) {
        (device, inode) = (UInt64(status.st_dev), UInt64(status.st_ino))
        (seconds, nanoseconds) = (status.st_mtim.tv_sec, status.st_mtim.tv_nsec)
    }
    /// nil: it is not there or may not be looked at.
    package init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        self.init(status)
    }
}
