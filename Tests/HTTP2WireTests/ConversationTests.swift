/// A client's machine and a server's talk to each other in pieces of any length: everything arrives whole and in order,
/// and in the end both are quiet.
import HTTP2Wire
import TestSupport
import Testing

@Suite struct ConversationTests {
    /// Sends what the other has to say, in pieces.
    private func carry(_ from: Endpoint, _ to: Endpoint, _ generator: inout SeededGenerator) -> [String] {
        var bytes = from.takeOutput()[...]
        var events: [String] = []
        while !bytes.isEmpty {
            let most = Int.random(in: 0..<20, using: &generator) == 0 ? 20 : 20_000
            let length = Int.random(in: 1...most, using: &generator)
            events += to.receive(Array(bytes.prefix(length)))
            bytes = bytes.dropFirst(length)
        }
        return events
    }

    /// What a side still has to send on its streams.
    private final class Sender {
        let endpoint: Endpoint
        var bodies: [UInt32: [UInt8]] = [:]
        var trailers: Set<UInt32> = []

        init(_ endpoint: Endpoint) {
            self.endpoint = endpoint
            endpoint.whenWritable = { [unowned self] stream in self.send(stream) }
        }
        func send(_ stream: UInt32) {
            guard let body = bodies[stream] else { return }
            let hasTrailers = trailers.contains(stream)
            guard let sent = try? endpoint.send(stream, body, isLast: !hasTrailers) else {
                bodies[stream] = nil
                return
            }
            bodies[stream] = sent == body.count ? nil : Array(body[sent...])
            if sent == body.count, hasTrailers {
                #expect(throws: Never.self) {
                    try endpoint.machine.sendTrailers(stream, fields([("x-count", "\(stream)")]))
                }
            }
        }
    }

    private func body(_ stream: UInt32, _ generator: inout SeededGenerator) -> [UInt8] {
        let count = [0, 1, 100, 10_000, 70_000].randomElement(using: &generator) ?? 0
        return (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ Int(stream)) }
    }

    @Test func everythingArrivesWhole() throws {
        var generator = SeededGenerator()
        for _ in 0..<3 {
            let (client, server) = (Endpoint(.client), Endpoint(.server))
            let (requests, responses) = (Sender(client), Sender(server))
            var sentByClient: [UInt32: [UInt8]] = [:]
            var sentByServer: [UInt32: [UInt8]] = [:]
            var open = 0
            var answered: Set<UInt32> = []
            var idle = 0
            while open < 40 || idle < 3 {
                if open < 40, Bool.random(using: &generator), client.machine.streamCount < 100 {
                    let stream = try client.open(
                        post + [("x-id", "\(open)"), ("user-agent", "test"), ("cookie", "a=b")], isLast: false)
                    let bytes = body(stream, &generator)
                    sentByClient[stream] = bytes
                    requests.bodies[stream] = bytes
                    if Bool.random(using: &generator) { requests.trailers.insert(stream) }
                    requests.send(stream)
                    open += 1
                }
                let toServer = carry(client, server, &generator)
                for event in toServer where event.hasPrefix("head") { answered.insert(streamOf(event)) }
                // Answers begin some time after their requests, before or after these have ended.
                for stream in answered where Int.random(in: 0..<3, using: &generator) == 0 {
                    answered.remove(stream)
                    if Bool.random(using: &generator) {
                        try server.respond(stream, [(":status", "103")], isLast: false)
                    }
                    try server.respond(stream, [(":status", "200"), ("server", "test")], isLast: false)
                    let bytes = body(stream, &generator)
                    sentByServer[stream] = bytes
                    responses.bodies[stream] = bytes
                    if Bool.random(using: &generator) { responses.trailers.insert(stream) }
                    responses.send(stream)
                }
                let toClient = carry(server, client, &generator)
                idle = toServer.isEmpty && toClient.isEmpty && answered.isEmpty ? idle + 1 : 0
                #expect(!(toServer + toClient).contains { $0.hasPrefix("violated") || $0.hasPrefix("failed") })
            }
            #expect(same(server.received, sentByClient))
            #expect(same(client.received, sentByServer))
            #expect(client.streamCount == 0 && server.streamCount == 0 && client.unread == 0 && server.unread == 0)
        }
    }

    private func same(_ received: [UInt32: [UInt8]], _ sent: [UInt32: [UInt8]]) -> Bool {
        received.filter { !$0.value.isEmpty } == sent.filter { !$0.value.isEmpty }
    }
    private func streamOf(_ event: String) -> UInt32 { UInt32(event.split(separator: " ")[1]) ?? 0 }

    @Test func eitherSideMayEndAnyStream() throws {
        var generator = SeededGenerator()
        let (client, server) = (Endpoint(.client), Endpoint(.server))
        let (requests, responses) = (Sender(client), Sender(server))
        var open: [UInt32] = []
        for round in 0..<150 {
            // Slowly enough for both: 33 resets a second are no flood.
            client.machine.now = UInt32(round / 10)
            server.machine.now = client.machine.now
            if client.machine.streamCount < 90 {
                let stream = try client.open(post, isLast: false)
                requests.bodies[stream] = body(stream, &generator)
                requests.send(stream)
                open.append(stream)
            }
            for event in carry(client, server, &generator) where event.hasPrefix("head") {
                let stream = streamOf(event)
                guard (try? server.respond(stream, isLast: false)) != nil else { continue }
                responses.bodies[stream] = body(stream, &generator)
                responses.send(stream)
            }
            if let stream = open.randomElement(using: &generator), round % 2 == 0 {
                (Bool.random(using: &generator) ? client : server).machine.reset(stream, .cancel)
            }
            let events = carry(server, client, &generator)
            #expect(!events.contains { $0.hasPrefix("violated") || $0.hasPrefix("failed") }, "\(events)")
            open.removeAll { stream in events.contains("reset \(stream) 8") }
        }
        for stream in open { client.machine.reset(stream, .cancel) }
        for _ in 0..<3 { _ = carry(client, server, &generator) + carry(server, client, &generator) }
        #expect(client.streamCount == 0 && server.streamCount == 0 && client.unread == 0 && server.unread == 0)
        // The windows are whole: nothing was lost on the way.
        let stream = try client.open(post, isLast: false)
        requests.bodies[stream] = Array(repeating: 7, count: 500_000)
        requests.send(stream)
        for _ in 0..<20 { _ = carry(client, server, &generator) + carry(server, client, &generator) }
        #expect(server.received[stream]?.count == 500_000)
    }

    /// As many as an optimised build can do in seconds.
    private var manyRequests: Int {
        #if DEBUG
            10_000
        #else
            100_000
        #endif
    }

    @Test func manyRequestsLeaveNothing() throws {
        let (client, server) = (Endpoint(.client), Endpoint(.server))
        var sizes: [Int] = []
        for round in 0..<manyRequests {
            let stream = try client.open(get + [("x-id", "\(round)"), ("user-agent", "test")])
            server.list.removeAll()
            _ = server.receive(client.takeOutput())
            try server.respond(stream, [(":status", "200"), ("date", "\(round / 10)"), ("server", "test")])
            _ = client.receive(server.takeOutput())
            if round % 100 == 99 { sizes.append(client.machine.memory + server.machine.memory) }
        }
        #expect(client.streamCount == 0 && server.streamCount == 0)
        // Once the dates of a while have filled the tables nothing grows; two full tables and two machines are small.
        let half = sizes.count / 2
        let (first, second) = (sizes[..<half].max() ?? 0, sizes[half...].max() ?? 0)
        #expect(second <= first && first < 16 << 10, "\(first) \(second)")
    }
}
