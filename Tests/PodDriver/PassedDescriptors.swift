/// Descriptors that others have: what a program may do to a socket besides using it.
import CLinux
import Glibc

/// On its way through a Unix socket (SCM_RIGHTS): the file lives, and no process has it open.
final class DescriptorInFlight {
    private let ends: (Int32, Int32)

    init(_ descriptor: Int32) throws {
        var pair: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
            throw Failure.errno("make a socket pair")
        }
        ends = (pair[0], pair[1])
        let sent = withMessage(carrying: descriptor) { message, _ in sendmsg(ends.0, message, 0) }
        guard sent == 1 else { throw Failure.errno("send a descriptor") }
    }
    deinit {
        close(ends.0)
        close(ends.1)
    }

    func land() throws -> Int32 {
        let descriptor = withMessage(carrying: -1) { message, descriptor in
            recvmsg(ends.1, message, 0) == 1 ? descriptor() : -1
        }
        guard descriptor >= 0 else { throw Failure.errno("receive a descriptor") }
        return descriptor
    }
}

/// One byte and a descriptor, which `body` can read again.
private func withMessage<R>(
    carrying descriptor: Int32, _ body: (UnsafeMutablePointer<msghdr>, () -> Int32) -> R
) -> R {
    // struct cmsghdr: length, level, type; then the descriptor, filled up to eight bytes.
    let (levelOffset, typeOffset, valueOffset, scmRights) = (8, 12, 16, Int32(1))
    var byte: UInt8 = 0
    return withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { control in
        control.storeBytes(of: valueOffset + MemoryLayout<Int32>.size, as: Int.self)
        control.storeBytes(of: SOL_SOCKET, toByteOffset: levelOffset, as: Int32.self)
        control.storeBytes(of: scmRights, toByteOffset: typeOffset, as: Int32.self)
        control.storeBytes(of: descriptor, toByteOffset: valueOffset, as: Int32.self)
        return withUnsafeMutableBytes(of: &byte) { content in
            var vector = iovec(iov_base: content.baseAddress, iov_len: 1)
            return withUnsafeMutablePointer(to: &vector) { vector in
                var message = msghdr()
                message.msg_iov = vector
                message.msg_iovlen = 1
                message.msg_control = control.baseAddress
                message.msg_controllen = control.count
                return body(&message) { control.load(fromByteOffset: valueOffset, as: Int32.self) }
            }
        }
    }
}

/// A process that has a file open and does nothing with it. It ends with this object, and with this process.
final class DescriptorBorrower {
    private let lifeline: Int32
    private let pid: Int32

    /// `others`: so many descriptors of something else come before it.
    init(_ descriptor: Int32, others: Int32) throws {
        var pipe: [Int32] = [-1, -1]
        guard Glibc.pipe(&pipe) == 0 else { throw Failure.errno("make a pipe") }
        defer { close(pipe[0]) }
        _ = fcntl(pipe[1], F_SETFD, FD_CLOEXEC)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // Not our standard streams: whoever waits for their end would wait for this process, too.
        let last = 3 + others
        // Above all that is dealt out below.
        let (stream, socket) = (fcntl(pipe[0], F_DUPFD_CLOEXEC, last + 1), fcntl(descriptor, F_DUPFD_CLOEXEC, last + 1))
        defer { for used in [stream, socket] { close(used) } }
        for target in 0..<last { posix_spawn_file_actions_adddup2(&actions, stream, target) }
        posix_spawn_file_actions_adddup2(&actions, socket, last)
        clinux_spawn_closing_from(&actions, last + 1)
        var words = [strdup("cat"), nil]
        defer { free(words[0]) }
        var child: Int32 = 0
        let code = posix_spawnp(&child, "cat", &actions, nil, &words, nil)
        guard code == 0 else {
            close(pipe[1])
            throw Failure("cannot start cat: \(String(cString: strerror(code)))")
        }
        (lifeline, pid) = (pipe[1], child)
    }
    deinit {
        close(lifeline)
        waitpid(pid, nil, 0)
    }
}
