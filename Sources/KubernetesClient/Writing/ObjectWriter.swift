/// Reads and writes single objects of an API server. It asks once; when to ask again is for whoever asks.
import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import PullJSON

package struct APIAnswer: Equatable, Sendable {
    package let status: Int
    package let body: [UInt8]
    package let resourceVersion: String
}

package final class ObjectWriter: Sendable {
    private static let mostTime = Duration.seconds(30)
    private let transport: Transport

    /// `program` is what the server's audit log calls us.
    package init(access: ClusterAccess, program: String, timing: KubernetesSource.Timing = .init()) {
        transport = Transport(access, timing: timing, program: program)
    }
    package func shutdown() { transport.shutdown() }

    package func read(
        _ object: ObjectAddress, within limit: Duration? = nil
    ) async -> Result<APIAnswer, APIFailure> {
        await ask(object.path, within: limit ?? Self.mostTime) { transport, path in
            try await transport.get(path)
        } failure: {
            APIFailure($0, verb: "get", object)
        }
    }

    package func write(
        _ write: ObjectWrite, fence: (any WriteFence)? = nil, within limit: Duration? = nil
    ) async -> WriteOutcome {
        switch await answer(to: write, fence: fence, within: limit) {
        case .failure(let failure): .failed(failure)
        case .success(let answer) where answer.resourceVersion == write.resourceVersion && write.verb != .delete:
            .unchanged(resourceVersion: answer.resourceVersion)
        case .success(let answer): .written(resourceVersion: answer.resourceVersion)
        }
    }

    /// As `write`, with what the server said.
    package func answer(
        to write: ObjectWrite, fence: (any WriteFence)? = nil, within limit: Duration? = nil
    ) async -> Result<APIAnswer, APIFailure> {
        var limit = limit ?? Self.mostTime
        if let fence {
            guard let left = fence.beginWrite() else { return .failure(.fenced) }
            // The other half is for the way to the server, which counts from when it has the request.
            limit = min(limit, left / 2)
        }
        defer { fence?.endWrite() }
        let (body, time) = (ByteBuffer(string: write.json), limit)
        return await ask(write.path, within: limit) { transport, path in
            try await transport.send(
                write.method, path, query: write.query(within: time), body: body, contentType: write.contentType
            ) {
                fence?.mayStillWrite(for: time) ?? true
            }
        } failure: {
            APIFailure($0, verb: write.verbName, write.object, write.part)
        }
    }

    private func ask(
        _ path: String, within limit: Duration,
        _ send: @escaping @Sendable (Transport, String) async throws -> HTTPClientResponse,
        failure: @escaping @Sendable (APIStatus) -> APIFailure
    ) async -> Result<APIAnswer, APIFailure> {
        let transport = transport
        return await withTaskGroup(of: Result<APIAnswer, APIFailure>?.self) { group in
            group.addTask {
                do {
                    let response = try await send(transport, path)
                    guard (200..<300).contains(response.status.code) else {
                        return .failure(failure(await APIStatus(of: response)))
                    }
                    return .success(try await APIAnswer(response))
                } catch is Transport.NotAllowed {
                    return .failure(.fenced)
                } catch {
                    return .failure(.trouble("the API server \(transport.sentence(for: error))"))
                }
            }
            group.addTask {
                try? await Task.sleep(for: limit)
                return nil
            }
            let first = await group.next() ?? nil
            group.cancelAll()
            return first ?? .failure(.trouble("the API server did not answer within \(limit)"))
        }
    }
}

extension ObjectWrite {
    fileprivate var method: HTTPMethod {
        switch verb {
        case .create: .POST
        case .replace: .PUT
        case .patch, .apply: .PATCH
        case .delete: .DELETE
        }
    }
    /// The server gives up with us: what we do not wait for any more must not happen later.
    fileprivate func query(within limit: Duration) -> [(name: String, value: String)] {
        let (seconds, rest) = limit.components
        var query = [(name: "timeout", value: "\(max(seconds * 1000 + rest / 1_000_000_000_000_000, 1))ms")]
        if case .apply(let manager, let force) = verb {
            query += [("fieldManager", manager), ("force", force ? "true" : "false")]
        }
        return query
    }
    var contentType: String {
        switch verb {
        case .patch: "application/merge-patch+json"
        // JSON is YAML.
        case .apply: "application/apply-patch+yaml"
        case .create, .replace, .delete: "application/json"
        }
    }
}

extension APIAnswer {
    fileprivate init(_ response: HTTPClientResponse) async throws {
        let bytes = Array(buffer: try await response.body.collect(upTo: 8 << 20))
        status = Int(response.status.code)
        body = bytes
        // Not every answer is an object with a version: a TokenReview has none.
        resourceVersion = (try? ObjectHead(reading: JSONReader(bytes.span)).resourceVersion) ?? ""
    }
}
