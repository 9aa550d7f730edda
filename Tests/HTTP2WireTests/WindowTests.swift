/// Flow control (RFC 9113, 5.2, 6.9): nothing beyond a window either way, and windows that grow with their use.
import HTTP2Wire
import Testing

@Suite struct WindowTests {
    private func opened(_ server: Endpoint, _ streams: UInt32...) throws {
        for stream in streams {
            _ = server.receive(headers(stream, get))
            try server.respond(stream, isLast: false)
        }
        _ = server.sent()
    }
    private func zeros(_ count: Int) -> [UInt8] { Array(repeating: 0, count: count) }

    @Test("RFC 9113, 6.9: no more is sent than the windows let out, and the rest when they open") func sending() throws
    {
        let server = Endpoint.started(.server)
        try opened(server, 1, 3)
        #expect(try server.send(1, zeros(100_000), isLast: true) == 65_535)
        #expect(server.sent() == ["DATA 1 16384", "DATA 1 16384", "DATA 1 16384", "DATA 1 16383"])
        #expect(try server.send(3, zeros(10)) == 0)
        // The end needs no window.
        #expect(server.receive(window(1, 50_000)) == [])
        #expect(server.receive(window(0, 40_000)) == ["writable 1", "writable 3"])
        #expect(try server.send(1, zeros(34_465), isLast: true) == 34_465)
        #expect(try server.send(3, zeros(10)) == 5535 + 4465 - 9990 && server.streamCount == 1)
        #expect(try server.send(3, [], isLast: true) == 0)
        #expect(server.sent().last == "DATA 3 0 end" && server.streamCount == 0)
    }

    @Test("RFC 9113, 6.9: those who wait take turns") func turns() throws {
        let server = Endpoint.started(.server)
        try opened(server, 1, 3, 5)
        _ = server.receive(window(1, 1 << 20) + window(3, 1 << 20) + window(5, 1 << 20))
        #expect(try server.send(1, zeros(70_000)) == 65_535)
        for stream in [3, 5, 1] as [UInt32] { #expect(try server.send(stream, zeros(10)) == 0) }
        // Each takes all there is and waits again, behind the others.
        server.whenWritable = { stream in _ = try? server.send(stream, Array(repeating: 0, count: 20)) }
        let order = (0..<6).flatMap { _ in server.receive(window(0, 10)) }
        #expect(order == [1, 3, 5, 1, 3, 5].map { "writable \($0)" })
        // One that is reset waits no more.
        _ = server.receive(reset(1) + reset(3))
        #expect(server.receive(window(0, 10)) == ["writable 5"])
    }

    @Test("RFC 9113, 6.9.2: SETTINGS change the windows of open streams, below zero too") func settingsChangeWindows()
        throws
    {
        let server = Endpoint.started(.server)
        try opened(server, 1)
        #expect(try server.send(1, zeros(60_000)) == 60_000)
        #expect(server.receive(settings((4, 10_000))) == ["settings"])
        #expect(try server.send(1, zeros(10)) == 0)
        #expect(server.receive(window(1, 50_000)) == [])
        #expect(server.receive(window(1, 7)) == ["writable 1"])
        #expect(try server.send(1, zeros(10)) == 7)
        #expect(server.receive(settings((4, 10_003))) == ["settings", "writable 1"])
        #expect(try server.send(1, zeros(3)) == 3)
        // 6.9.2: above 2^31-1 by a setting.
        _ = server.receive(window(1, 0x7fff_ffff))
        #expect(server.receive(settings((4, 20_000))) == ["violated 3 window_overflow"])
        // For streams to come, too.
        let other = Endpoint.started(.server)
        _ = other.receive(settings((4, 5)))
        try opened(other, 1)
        #expect(try other.send(1, zeros(10)) == 5)
    }

    private func fill(_ server: Endpoint, _ stream: UInt32, _ count: Int) -> [String] {
        var left = count
        var events: [String] = []
        while left > 0 {
            let length = min(16_384, left)
            events += server.receive(frame(Type.data, 0, stream, zeros(length)))
            left -= length
        }
        return events
    }

    @Test("RFC 9113, 6.9.1: a peer that sends more than it may") func receiving() {
        var limits = HTTP2Limits()
        limits.connectionWindow = 100_000
        limits.unread = 0
        let server = Endpoint.started(.server, limits: limits)
        server.consumes = false
        _ = server.receive(headers(1, end: false, post) + headers(3, end: false, post))
        #expect(fill(server, 1, 65_535).count == 4)
        #expect(server.receive(data(1, "x")) == ["failed 1 3 window_exceeded"])
        #expect(fill(server, 3, 34_464).last?.hasPrefix("data 3") == true)
        #expect(server.receive(data(3, "xx")) == ["violated 3 window_exceeded"])
    }

    @Test("RFC 9113, 6.9: windows are given back as bytes are consumed, and double with use") func windowsGrow() {
        let server = Endpoint.started(.server)
        _ = server.receive(headers(1, end: false, post))
        _ = fill(server, 1, 32_768)
        #expect(server.sent() == ["WINDOW_UPDATE 1 32768"])
        _ = fill(server, 1, 49_152)
        #expect(server.sent() == ["WINDOW_UPDATE 1 98303"])
        for _ in 0..<400 { _ = fill(server, 1, 65_536) }
        let updates = server.sent()
        let largest = { (prefix: String) in
            updates.filter { $0.hasPrefix(prefix) }.compactMap { UInt32($0.split(separator: " ")[2]) }.max() ?? 0
        }
        // 4 MiB, of which half is given back at a time.
        #expect((2 << 20...5 << 20).contains(largest("WINDOW_UPDATE 1 ")))
        #expect((2 << 20...5 << 20).contains(largest("WINDOW_UPDATE 0 ")))
        #expect(updates.count < 400 && server.unread == 0)
    }

    @Test func whatNobodyConsumesIsBounded() {
        var limits = HTTP2Limits()
        limits.unread = 200_000
        limits.connectionWindow = 100_000
        let server = Endpoint.started(.server, limits: limits)
        server.consumes = false
        var received = 0
        for stream in stride(from: UInt32(1), to: 21, by: 2) {
            _ = server.receive(headers(stream, end: false, post))
            guard fill(server, stream, 65_000).last?.hasPrefix("data") == true else { break }
            received += 65_000
        }
        // What was given back before, and one window more.
        #expect(received <= 300_000 && server.unread <= 300_000)
        // A stream that nobody reads gets no window of its own, and the others do.
        let other = Endpoint.started(.server)
        other.consumes = false
        _ = other.receive(headers(1, end: false, post))
        _ = fill(other, 1, 65_000)
        other.consumes = true
        _ = other.receive(headers(3, end: false, post))
        for _ in 0..<50 { _ = fill(other, 3, 30_000) }
        let updates = other.sent()
        #expect(
            updates.contains { $0.hasPrefix("WINDOW_UPDATE 3") } && updates.contains { $0.hasPrefix("WINDOW_UPDATE 0") }
        )
        #expect(!updates.contains { $0.hasPrefix("WINDOW_UPDATE 1 ") } && other.unread == 65_000)
    }

    /// What the frames of `sent` give to a stream, or with 0 to the connection.
    private func opened(_ frames: [String], _ stream: UInt32) -> Int {
        frames.filter { $0.hasPrefix("WINDOW_UPDATE \(stream) ") }
            .compactMap { Int($0.split(separator: " ")[2]) }.reduce(0, +)
    }

    @Test("a window does not grow for an owner that leaves it full", arguments: [49_152, 65_535])
    func slowOwners(_ count: Int) {
        let server = Endpoint.started(.server)
        server.consumes = false
        _ = server.receive(headers(1, end: false, post))
        for _ in 0..<200 {
            _ = fill(server, 1, count)
            server.machine.consumed(1, count)
        }
        let largest = server.sent().filter { $0.hasPrefix("WINDOW_UPDATE 1 ") }
            .compactMap { Int($0.split(separator: " ")[2]) }.max()
        #expect(largest == count)
    }

    @Test("streams whose windows grew, and that nobody reads any more, take nothing from the others")
    func readersThatStopHoldNobodyUp() {
        let server = Endpoint.started(.server)
        var room: [UInt32: Int] = [0: 1 << 20]
        func open(_ stream: UInt32) {
            _ = server.receive(headers(stream, end: false, post))
            room[stream] = 65_535
        }
        /// Frames of 16 KiB as long as the windows let them out. False: they do not.
        func send(_ stream: UInt32) -> Bool {
            guard min(room[stream] ?? 0, room[0] ?? 0) >= 16_384 else { return false }
            #expect(fill(server, stream, 16_384) == ["data \(stream) 16384"])
            room[stream, default: 0] -= 16_384
            room[0, default: 0] -= 16_384
            let frames = server.sent()
            for stream in room.keys { room[stream, default: 0] += opened(frames, stream) }
            return true
        }
        for stream in [1, 3, 5] as [UInt32] { open(stream) }
        for _ in 0..<1000 { #expect(send(1) && send(3)) }
        server.unreadStreams = [1, 3]
        while send(1) {}
        while send(3) {}
        #expect(server.unread > 4 << 20)
        for _ in 0..<1000 { #expect(send(5)) }
        // What is unread has an end, whoever ends his streams.
        for stream in stride(from: UInt32(7), to: 47, by: 2) {
            open(stream)
            server.unreadStreams = []
            for _ in 0..<300 where !send(stream) { break }
            server.unreadStreams = [1, 3, stream]
            while send(stream) {}
            server.machine.reset(stream, .cancel)
        }
        #expect(server.unread < 24 << 20, "\(server.unread)")
        // And what its owner has done with makes room again.
        server.machine.consumed(1, server.unread)
        room[0, default: 0] += opened(server.sent(), 0)
        for _ in 0..<1000 { #expect(send(5)) }
    }

    @Test("more than four thousand million bytes pass through one stream, and one connection") func longTransfers() {
        var limits = HTTP2Limits()
        limits.frame = 1 << 20
        (limits.streamWindow, limits.connectionWindow) = (limits.largestWindow, limits.largestWindow)
        var machine = HTTP2Machine(.server, limits: limits)
        var list = FieldList()
        var received: UInt64 = 0
        var isOver = false
        func receive(_ bytes: [UInt8]) {
            bytes.withUnsafeBytes { input in
                var at = 0
                while let event = machine.next(input, at: &at, into: &list) {
                    if case .violated = event { isOver = true }
                    guard case .data(let stream, let range, _) = event else { continue }
                    received += UInt64(range.count)
                    machine.consumed(stream, range.count)
                }
            }
            machine.outputWasTaken()
        }
        receive(preface + settings() + frame(Type.settings, Flag.ack, 0) + headers(1, end: false, post))
        let megabyte = frame(Type.data, 0, 1, zeros(1 << 20))
        for _ in 0..<4200 { receive(megabyte) }
        #expect(received == 4200 << 20 && !isOver)
    }

    @Test("RFC 9113, 6.9: padding, and data of streams that are gone, use the connection's window up and give it back")
    func everyByteCounts() {
        let server = Endpoint.started(.server)
        _ = server.receive(headers(1, end: false, post))
        let padded = frame(Type.data, Flag.padded, 1, [255] + Array("x".utf8) + zeros(255))
        for _ in 0..<400 { #expect(server.receive(padded) == ["data 1 1"]) }
        server.machine.reset(1, .cancel)
        for _ in 0..<100 { #expect(fill(server, 1, 30_000) == []) }
        let updates = server.sent()
        #expect(
            updates.contains { $0.hasPrefix("WINDOW_UPDATE 1") } && updates.contains { $0.hasPrefix("WINDOW_UPDATE 0") }
        )
    }
}
