/// One small question to another program's small server: a connection for it alone, closed with the answer, so that
/// thousands of servers can be asked without keeping anything of any of them.
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix

package struct FetchFailure: Error, Sendable, CustomStringConvertible {
    package let description: String
}

extension ServerLoop {
    /// `host`: an IP address. The answer's body is no longer than `limit`, and everything is over `within` that time.
    package func fetch(
        _ path: String, host: String, port: UInt16, within time: Duration, limit: Int
    ) async -> Result<(status: Int, body: [UInt8]), FetchFailure> {
        guard let address = try? SocketAddress(ipAddress: host, port: Int(port)) else {
            return .failure(FetchFailure(description: "\(host) is not an IP address"))
        }
        let loop = loop
        let answer = loop.makePromise(of: (status: Int, body: [UInt8]).self)
        let deadline = loop.scheduleTask(in: TimeAmount(time)) {
            answer.fail(FetchFailure(description: "no answer from \(host):\(port) within \(time)"))
        }
        ClientBootstrap(group: loop).connectTimeout(TimeAmount(time))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHTTPClientHandlers(leftOverBytesStrategy: .dropBytes)
                    try pipeline.addHandler(FetchHandler(path, "\(host):\(port)", limit, answer))
                }
            }
            .connect(to: address)
            .whenComplete { result in
                switch result {
                case .success(let channel): answer.futureResult.whenComplete { _ in channel.close(promise: nil) }
                case .failure(let error): answer.fail(error)
                }
            }
        answer.futureResult.whenComplete { _ in deadline.cancel() }
        do {
            return .success(try await answer.futureResult.get())
        } catch let failure as FetchFailure {
            return .failure(failure)
        } catch let error as IOError {
            return .failure(FetchFailure(description: "\(host):\(port): \(String(cString: strerror(error.errnoCode)))"))
        } catch {
            return .failure(FetchFailure(description: "\(host):\(port): \(reason(of: error))"))
        }
    }
}

/// Connection errors wrap one for each address that was tried.
private func reason(of error: any Error) -> String {
    guard let error = error as? NIOConnectionError, let first = error.connectionErrors.first?.error as? IOError else {
        return "\(error)"
    }
    return String(cString: strerror(first.errnoCode))
}

private final class FetchHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private let path: String
    private let host: String
    private let limit: Int
    private let answer: EventLoopPromise<(status: Int, body: [UInt8])>
    private var status = 0
    private var body: [UInt8] = []

    init(_ path: String, _ host: String, _ limit: Int, _ answer: EventLoopPromise<(status: Int, body: [UInt8])>) {
        (self.path, self.host, self.limit, self.answer) = (path, host, limit, answer)
    }

    func channelActive(context: ChannelHandlerContext) {
        let head = HTTPRequestHead(
            version: .http1_1, method: .GET, uri: path, headers: ["Host": host, "Connection": "close"])
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): status = Int(head.status.code)
        case .body(let bytes):
            body += bytes.readableBytesView
            if body.count > limit { answer.fail(FetchFailure(description: "\(host) answers more than \(limit) bytes")) }
        case .end: answer.succeed((status, body))
        }
    }
    func channelInactive(context: ChannelHandlerContext) {
        answer.fail(FetchFailure(description: "\(host) ended the connection without an answer"))
    }
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        answer.fail(error)
        context.close(promise: nil)
    }
}
