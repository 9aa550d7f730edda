/// What the fake API server can do wrong, once for each time it is asked to.
import NIOCore

package enum FakeFault: Sendable {
    /// Answer with this status and nothing else.
    case status(Int, reason: String = "", message: String = "", headers: [String: String] = [:])
    /// Answer as usual, but cut the connection after so many bytes of the body.
    case cut(afterBytes: Int)
    /// Answer as usual, in pieces of so many bytes.
    case drip(bytes: Int)
    /// Answer 200 with this body.
    case body(String)
    /// A list, or streamed list, with nothing in it.
    case empty
    /// Take the request and never answer.
    case silence
    /// Begin a watch and end it in good order at once.
    case endAtOnce
}

/// A request that waits for its answer.
struct FakeExchange: Sendable {
    let request: FakeRequest
    let target: FakeTarget?
    let body: String
    let channel: any Channel
    let began = ContinuousClock.now

    /// Servers give up when the client does: it goes away, or said how long it would wait.
    var isWanted: Bool {
        let limit = request.query["timeout"].flatMap { Int($0.dropLast(2)) } ?? 34_000
        return channel.isActive && ContinuousClock.now - began < .milliseconds(limit)
    }
}

/// One request as it came.
package struct FakeRequest: Sendable {
    /// Of a list or watch of the whole cluster.
    package let resource: FakeResource?
    package let method: String
    package let path: String
    package let query: [String: String]
    package let headers: [String: String]

    package var isWatch: Bool { query["watch"] == "true" }
    package var isStreamedList: Bool { query["sendInitialEvents"] == "true" }
    package var isList: Bool { !isWatch }
}
