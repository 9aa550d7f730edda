/// gRPC calls of one message each way, on the small servers' HTTP/2. Deadlines are the client's to keep: it resets the
/// stream, and an answer that comes then is dropped.
import Synchronization

package enum GRPCCode: Int, Sendable {
    case invalidArgument = 3
    case permissionDenied = 7
    case resourceExhausted = 8
    case unimplemented = 12
    case `internal` = 13
    case unavailable = 14
    case unauthenticated = 16
}

package struct GRPCFailure: Error, Sendable, Equatable {
    package var code: GRPCCode
    package var message: String

    package init(code: GRPCCode, message: String) {
        self.code = code
        self.message = message
    }

    /// An answer of headers only.
    package var response: HTTPResponse {
        HTTPResponse(
            contentType: "application/grpc",
            headers: [("grpc-status", String(code.rawValue)), ("grpc-message", percentEncoded(message))], body: [])
    }
}

/// Answers calls in a task group, a bounded number at once.
package final class GRPCCalls: Sendable {
    private let atOnce: Int
    private let messageBytes: Int
    private let running = Mutex(0)
    private let calls: AsyncStream<@Sendable () async -> Void>
    private let add: AsyncStream<@Sendable () async -> Void>.Continuation

    /// `messageBytes`: of a request; smaller than what the listener takes.
    package init(atOnce: Int = 64, messageBytes: Int = 64 << 10) {
        self.atOnce = atOnce
        self.messageBytes = messageBytes
        // No more than `atOnce` are in it.
        (calls, add) = AsyncStream.makeStream()
    }

    /// Until it is cancelled.
    package func run() async {
        await withDiscardingTaskGroup { group in
            for await call in calls { group.addTask { await call() } }
        }
    }

    /// Whether the method exists is the caller's to judge, before.
    package func answerUnary(
        _ request: HTTPRequest, reply: @escaping @Sendable (HTTPResponse) -> Void,
        answer: @escaping @Sendable ([UInt8]) async -> Result<[UInt8], GRPCFailure>
    ) {
        guard request.method == "POST" else { return reply(.text("gRPC is asked by POST\n", status: 405)) }
        guard isGRPC(request.header("content-type") ?? "") else {
            return reply(.text("this is asked with content-type application/grpc\n", status: 415))
        }
        let message: [UInt8]
        switch unaryMessage(request.body, limit: messageBytes) {
        case .success(let bytes): message = bytes
        case .failure(let failure): return reply(failure.response)
        }
        guard began() else {
            return reply(GRPCFailure(code: .unavailable, message: "\(atOnce) calls are being answered").response)
        }
        add.yield {
            let result = await answer(message)
            self.running.withLock { $0 -= 1 }
            switch result {
            case .success(let bytes):
                reply(
                    HTTPResponse(
                        contentType: "application/grpc", body: framed(bytes), trailers: [("grpc-status", "0")]))
            case .failure(let failure): reply(failure.response)
            }
        }
    }

    private func began() -> Bool {
        running.withLock { running in
            guard running < atOnce else { return false }
            running += 1
            return true
        }
    }
}

private func isGRPC(_ contentType: String) -> Bool {
    let type = contentType.prefix { $0 != ";" }.lowercased()
    return type == "application/grpc" || type == "application/grpc+proto"
}

/// The one message of a request: a byte that says whether it is compressed, four of its length, and itself.
func unaryMessage(_ body: [UInt8], limit: Int) -> Result<[UInt8], GRPCFailure> {
    func fail(_ code: GRPCCode, _ message: String) -> Result<[UInt8], GRPCFailure> {
        .failure(GRPCFailure(code: code, message: message))
    }
    guard body.count >= 5 else { return fail(.invalidArgument, "the request has no message") }
    guard body[0] != 1 else { return fail(.unimplemented, "compressed messages are not read: send them as they are") }
    guard body[0] == 0 else { return fail(.internal, "the message begins with \(body[0]), which is neither 0 nor 1") }
    let length = body[1..<5].reduce(0) { $0 << 8 | Int($1) }
    guard length <= limit else {
        return fail(.resourceExhausted, "the message has \(length) bytes; \(limit) are taken")
    }
    guard body.count == 5 + length else {
        return fail(.invalidArgument, "the request is not one message of the \(length) bytes that it announces")
    }
    return .success(Array(body[5...]))
}

func framed(_ message: [UInt8]) -> [UInt8] {
    let length = UInt32(message.count)
    return [0] + (0..<4).reversed().map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + message
}

/// As gRPC wants it: printable ASCII but `%` stays. Cut off where clients would refuse the header.
func percentEncoded(_ text: String) -> String {
    text.utf8.prefix(1024).reduce(into: "") { result, byte in
        if (0x20...0x7e).contains(byte), byte != UInt8(ascii: "%") {
            result.unicodeScalars.append(Unicode.Scalar(byte))
        } else {
            result += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }
    }
}
