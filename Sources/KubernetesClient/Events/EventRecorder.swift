/// Tells the owners of objects what is wrong with them, as Events in the cluster. Never in anybody's way: few at a
/// time, the same thing once, and what cannot be delivered is dropped and counted.
import AsyncHTTPClient
import Cluster
import Glibc
import NIOCore
import NIOHTTP1
import PullJSON
import Synchronization

final class EventRecorder: Sendable {
    /// What waits at most; and how many that were told are remembered.
    private static let limit = 200
    private static let remembered = 5000

    private struct State {
        var told: Set<ObjectEvent> = []
        var waiting = 0
        var dropped = 0
        /// Creating events is forbidden; said once.
        var problem: String?
    }
    private let state = Mutex(State())
    private let events: AsyncStream<ObjectEvent>
    private let continuation: AsyncStream<ObjectEvent>.Continuation
    private let program: String
    /// Empty: of no node.
    private let nodeName: String
    /// Between two events, after the first ten.
    private let pause: Duration

    private let backoff: Backoff

    init(
        program: String = "heddle-agent", nodeName: String, pause: Duration, backoff: Backoff = Backoff()
    ) {
        self.program = program
        self.nodeName = nodeName
        self.pause = pause
        self.backoff = backoff
        (events, continuation) = AsyncStream.makeStream()
    }

    var dropped: Int { state.withLock { $0.dropped } }
    var problem: String? { state.withLock { $0.problem } }

    func record(_ event: ObjectEvent) {
        let isWanted = state.withLock { state in
            guard !state.told.contains(event) else { return false }
            guard state.waiting < Self.limit else {
                state.dropped += 1
                return false
            }
            if state.told.count >= Self.remembered { state.told.removeAll() }
            state.told.insert(event)
            state.waiting += 1
            return true
        }
        if isWanted { continuation.yield(event) }
    }

    /// Until the task is cancelled.
    func run(_ transport: Transport, _ resources: [WatchedResource]) async {
        var credit = 10
        var last = ContinuousClock.now
        var backoff = backoff
        var random = SystemRandomNumberGenerator()
        for await event in events {
            let earned = Int((ContinuousClock.now - last) / pause)
            credit = min(10, credit + earned)
            if earned > 0 { last = .now }
            if credit == 0 {
                do { try await Task.sleep(for: pause) } catch { return }
            } else {
                credit -= 1
            }
            state.withLock { $0.waiting -= 1 }
            guard let resource = resources.first(where: { $0.kind == event.object.kind }) else { continue }
            if await deliver(event, resource, transport) {
                backoff.reset()
            } else {
                state.withLock { $0.dropped += 1 }
                do { try await Task.sleep(for: backoff.next(using: &random)) } catch { return }
            }
        }
    }

    private func deliver(_ event: ObjectEvent, _ resource: WatchedResource, _ transport: Transport) async -> Bool {
        do {
            // `kubectl describe` finds events by the object's uid, which nothing else here needs.
            let answer = try await transport.get(resource.path(of: event.object.name))
            let object = try await answer.body.collect(upTo: 8 << 20)
            guard answer.status == .ok, let uid = uid(object) else { return false }
            let namespace = event.object.name.namespace.isEmpty ? "default" : event.object.name.namespace
            let made = try await transport.post(
                "/api/v1/namespaces/\(namespace)/events", json: json(event, resource, uid: uid, namespace))
            _ = try? await made.body.collect(upTo: 1 << 20)
            // Another node was first.
            if made.status == .conflict { return true }
            let problem =
                made.status == .forbidden
                ? "the API server forbids to create events; allow the verb create on resource events" : nil
            state.withLock { $0.problem = problem }
            return made.status == .created || made.status == .ok
        } catch { return false }
    }

    private func uid(_ object: ByteBuffer) -> String? {
        var object = object
        guard let bytes = object.readBytes(length: object.readableBytes) else { return nil }
        return try? ObjectUID(reading: JSONReader(bytes.span)).text
    }

    private func json(_ event: ObjectEvent, _ resource: WatchedResource, uid: String, _ namespace: String) -> String {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        let now = Timestamp.text(time.tv_sec)
        let object = event.object.name
        let host = event.isOfThisNode ? nodeName : ""
        // An object's name may be as long as an event's.
        let name = "\(object.name.prefix(230)).\(String(EventName.hash(event, host), radix: 16))"
        return """
            {"apiVersion":"v1","kind":"Event","metadata":{"name":\(quoted(name)),"namespace":\(quoted(namespace))},\
            "involvedObject":{"apiVersion":\(quoted(resource.apiVersion)),"kind":\(quoted(event.object.kind.rawValue)),\
            "namespace":\(quoted(object.namespace)),"name":\(quoted(object.name)),"uid":\(quoted(uid))},\
            "reason":\(quoted(event.reason)),"message":\(quoted(String(event.message.prefix(1000)))),"type":"Warning",\
            "firstTimestamp":"\(now)","lastTimestamp":"\(now)","count":1,\
            "source":{"component":\(quoted(program)),"host":\(quoted(nodeName))}}
            """
    }
}

/// `metadata.uid` of any object.
private struct ObjectUID {
    var text = ""

    init(reading start: borrowing JSONReader) throws(JSONError) {
        var reader = copy start
        try reader.enterObject()
        while let key = try reader.nextKey() {
            guard reader.text(of: key) == "metadata", reader.token == .object else {
                try reader.skipValue()
                continue
            }
            try reader.enterObject()
            while let key = try reader.nextKey() {
                if reader.text(of: key) == "uid", reader.token == .string {
                    text = try reader.readText()
                } else {
                    try reader.skipValue()
                }
            }
        }
    }
}

/// The same event of any node has the same name, so that the cluster keeps one of it.
enum EventName {
    /// FNV-1a.
    static func hash(_ event: ObjectEvent, _ host: String) -> UInt64 {
        "\(event.object) \(event.reason) \(event.message) \(host)".utf8.reduce(0xcbf2_9ce4_8422_2325) {
            ($0 ^ UInt64($1)) &* 0x100_0000_01b3
        }
    }
}

/// As a JSON string.
func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"", "\\": result += "\\" + String(scalar)
        case let control where control.value < 0x20:
            let digits = String(control.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
