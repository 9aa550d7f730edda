/// A socket that somebody else made, until it is connected: NIO connects only its own. Where it goes is on this
/// machine, so that it mostly is connected when it is first looked at.
import Addressing
import Balancing
import Glibc
import NIOCore

final class PendingSocket {
    private static let first = TimeAmount.microseconds(200)
    private static let longest = TimeAmount.milliseconds(50)

    private let descriptor: Int32
    private let target: SocketAddress
    private let loop: any EventLoop
    private let deadline: NIODeadline
    private var pause = first

    /// Takes the descriptor over.
    init(_ descriptor: Int32, to target: SocketAddress, within limit: Duration, on loop: any EventLoop) {
        (self.descriptor, self.target, self.loop) = (descriptor, target, loop)
        deadline = .now() + .nanoseconds(Int64(clamping: limit.wholeNanoseconds))
    }

    /// `then` is never called from within this call.
    func connect(_ then: @escaping (Result<Int32, Connector.Failure>) -> Void) {
        let flags = fcntl(descriptor, F_GETFL)
        var code: Int32 = 0
        if fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) != 0
            || target.withSockaddr({ Glibc.connect(descriptor, $0, $1) }) != 0
        {
            code = errno
        }
        loop.assumeIsolated().execute {
            if code == 0 || code == EINPROGRESS { self.look(then) } else { self.fail(code, then) }
        }
    }

    private func look(_ then: @escaping (Result<Int32, Connector.Failure>) -> Void) {
        var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard Glibc.poll(&poll, 1, 0) == 0 else {
            var code: Int32 = 0
            var size = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size)
            return code == 0 ? then(.success(descriptor)) : fail(code, then)
        }
        guard NIODeadline.now() < deadline else { return fail(ETIMEDOUT, then) }
        loop.assumeIsolated().scheduleTask(in: pause) { self.look(then) }
        pause = min(pause * 2, Self.longest)
    }

    private func fail(_ code: Int32, _ then: (Result<Int32, Connector.Failure>) -> Void) {
        close(descriptor)
        then(
            .failure(
                Connector.Failure(
                    reason: "\(target): \(String(cString: strerror(code)))", isTimeout: code == ETIMEDOUT)))
    }
}
