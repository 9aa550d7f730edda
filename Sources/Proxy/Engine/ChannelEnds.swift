/// How connections end so that the other side gets everything, or notices that it has not.
import Glibc
import NIOCore

extension ChannelHandlerContext {
    /// Once the kernel has all that was written: NIO throws away what still waits when a side is closed under it.
    func whenSent(_ body: @escaping () -> Void) {
        guard channel.pendingBytes > 0 else { return body() }
        let sent = eventLoop.makePromise(of: Void.self)
        sent.futureResult.assumeIsolated().whenSuccess(body)
        writeAndFlush(NIOAny(ByteBuffer()), promise: sent)
    }

    /// Ends our side once all is out that was written. NIO does so by itself unless the other side has ended before.
    func endOutput(inputEnded: Bool) {
        if inputEnded { whenSent { self.close(promise: nil) } } else { close(mode: .output, promise: nil) }
    }
}

extension Channel {
    /// The other side is to notice that this is no end in order.
    func resetsAtClose() {
        guard let socket = self as? any SocketOptionProvider else {
            return pipeline.triggerUserOutboundEvent(ResetAtClose(), promise: nil)
        }
        _ = socket.setSoLinger(linger(l_onoff: 1, l_linger: 0))
    }

    /// At once, and so that the other side notices: TLS would wait for its goodbye.
    func cut() {
        resetsAtClose()
        _channelCore.close0(error: ChannelError.eof, mode: .all, promise: nil)
    }

    /// Written and not yet taken by the kernel. To be asked on its loop, and only when it matters.
    var pendingBytes: Int { (try? syncOptions?.getOption(.bufferedWritableBytes)) ?? 0 }
}
