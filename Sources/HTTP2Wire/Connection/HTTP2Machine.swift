/// One connection of HTTP/2 (RFC 9113) without sockets, clocks or callbacks: bytes go in, events come out one by one,
/// and what is to be sent gathers in `output`. It serves both roles.
///
///     while let event = machine.next(bytes, at: &at, into: &fields) { ... }
///     send(machine.output); machine.outputWasTaken()

package struct HTTP2Machine: ~Copyable {
    package enum Role: Sendable {
        case client, server
    }
    static let largestWindow = Int64(Int32.max)
    static let largestStream: UInt32 = 0x7fff_ffff
    /// How many frames may come later than the work that explains them.
    static let credit: Int64 = 1 << 16

    package let role: Role
    package let limits: HTTP2Limits
    /// Seconds of any clock that never goes back; the owner sets it now and then.
    package var now: UInt32 = 0

    /// What is to be sent.
    package internal(set) var output = ByteStore()
    /// What the peer has told of itself.
    package internal(set) var peer = HTTP2Settings()

    // Reading.
    var reader: FrameReader
    var decoder: HPACKDecoder
    var awaitsSettingsAck = true
    /// Events that are due before anything is read.
    var due: [HTTP2Event] = []
    var isOver = false

    // Streams.
    var streams = StreamTable()
    /// The highest ID that each side has used; lower ones are closed if they are not in the table (RFC 9113, 5.1.1).
    var lastPeerStream: UInt32 = 0
    /// The numbers that the peer's newest stream has left out.
    var skipped: Range<UInt32> = 0..<0
    var lastOwnStream: UInt32 = 0
    var peerStreams: UInt32 = 0
    var ownStreams: UInt32 = 0
    /// Reset by us while the peer could still send, the eldest overwritten.
    var resetByUs: [UInt32] = []
    var eldestReset = 0
    /// There were more of them than are remembered.
    var hasForgottenResets = false

    // Windows of the connection.
    var sendWindow: Int32 = 65_535
    var receiveWindow: Int32 = 65_535
    var windowSize: UInt32
    var owed: UInt32 = 0
    var used: UInt32 = 0
    /// Delivered and not consumed.
    package internal(set) var unread = 0
    /// What the windows of streams have grown by; of streams that are gone, as far as their bytes are unread.
    var streamGrowth: UInt32 = 0
    var orphanedGrowth: UInt32 = 0
    /// Streams that wait for windows, the eldest first; some may be gone.
    var waiting: [UInt32] = []
    var mayWake = false

    // Writing.
    var encoder = HPACKEncoder()
    var waitingAnswers = 0

    // Ends.
    /// The last stream that our GOAWAY speaks of.
    var announcedLast: UInt32?
    var peerAnnouncedLast: UInt32?

    // Floods.
    var resets = LeakyCount()
    var controlFrames = LeakyCount()
    var windowUpdates = LeakyCount()
    var emptyFrames = 0

    package init(_ role: Role, limits: HTTP2Limits = HTTP2Limits()) {
        self.role = role
        self.limits = limits
        reader = FrameReader(
            isServer: role == .server, maxFrameSize: limits.frame, maxBlockSize: limits.headerBlock,
            maxContinuations: limits.continuations)
        // Until our SETTINGS are acknowledged the peer may use the default.
        decoder = HPACKDecoder()
        windowSize = max(65_535, limits.connectionWindow)
        begin()
    }

    /// The preface (RFC 9113, 3.4), and the connection's window, which no setting says.
    private mutating func begin() {
        if role == .client { output.append(UnsafeRawBufferPointer(FrameReader.preface)) }
        var settings = HTTP2Settings()
        settings.headerTableSize = UInt32(headerTable)
        if role == .server { settings.maxConcurrentStreams = limits.streams }
        settings.initialWindowSize = streamWindow
        settings.maxFrameSize = UInt32(limits.frame)
        settings.maxHeaderListSize = UInt32(limits.headerList)
        settings.enablesConnectProtocol = limits.offersExtendedConnect && role == .server
        output.settings(settings, isClient: role == .client)
        if windowSize > 65_535 {
            output.windowUpdate(0, windowSize - 65_535)
            receiveWindow = Int32(windowSize)
        }
    }
    /// Not smaller than what holds before SETTINGS arrive, so that no stream begins with too much.
    var streamWindow: UInt32 { max(65_535, limits.streamWindow) }
    /// No larger than a table can be here.
    var headerTable: Int { min(limits.headerTable, DynamicTable.maximumLimit) }

    // MARK: For the owner

    package var streamCount: Int { streams.count }
    /// No stream, and none may begin: close when `output` is sent.
    package var isFinished: Bool {
        isOver
            || streams.count == 0
                && (announcedLast.map { $0 < Self.largestStream } ?? false || peerAnnouncedLast != nil)
    }
    /// False for good once nobody may open streams any more, also because the numbers have run out (RFC 9113, 5.1.1).
    package var acceptsStreams: Bool {
        !isOver && peerAnnouncedLast == nil && announcedLast == nil && lastOwnStream < Self.largestStream - 1
    }

    /// The peer's GOAWAY says that it did nothing with this stream of ours, after it had served others.
    package func isLeftOut(_ stream: UInt32) -> Bool {
        peerAnnouncedLast.map { $0 > 0 && stream > $0 && isOwn(stream) } ?? false
    }

    /// Bytes that this connection holds, itself included.
    package var memory: Int {
        let lists = (waiting.capacity + resetByUs.capacity) * 4 + due.capacity * MemoryLayout<HTTP2Event>.stride
        return MemoryLayout<Self>.size + decoder.memory + encoder.memory + reader.memory + streams.memory
            + output.capacity + lists
    }

    /// `output` was taken: it is empty again, and without memory if the connection rests. Who only moves it to another
    /// buffer must stop reading while that is full: a peer that does not read is told by answers that nobody takes.
    package mutating func outputWasTaken() {
        output.removeAll(keeping: streams.count == 0 ? 256 : 64 << 10)
        waitingAnswers = 0
    }

    /// The next event; nil: all of the input was taken.
    package mutating func next(
        _ input: UnsafeRawBufferPointer, at: inout Int, into fields: inout FieldList
    ) -> HTTP2Event? {
        while true {
            if let event = dueEvent() { return event }
            guard !isOver else {
                at = input.count
                return nil
            }
            do throws(HTTP2Fault) {
                guard let piece = try reader.next(input, &at) else { return nil }
                if let event = try take(piece, input, &fields) { return event }
            } catch {
                return fail(error)
            }
        }
    }

    private mutating func dueEvent() -> HTTP2Event? {
        if !due.isEmpty { return due.removeFirst() }
        return mayWake ? wake().map { .writable(stream: $0) } : nil
    }

    // MARK: Faults

    /// A stream error ends the stream, everything else the connection (RFC 9113, 5.4).
    mutating func fail(_ fault: HTTP2Fault) -> HTTP2Event {
        // No frame but PRIORITY may be sent on an idle stream, not even its reset.
        guard fault.stream != 0, !isIdle(fault.stream) else { return violated(fault) }
        // RFC 9113, 10.5: work begun and thrown away costs the same whoever ends it.
        guard resets.add(limits.resets, now: now) else {
            return violated(.connection(.enhanceYourCalm, .tooManyResets))
        }
        endStream(fault.stream, fault.code)
        return answered()
            ? violated(.connection(.enhanceYourCalm, .peerDoesNotRead)) : .failed(stream: fault.stream, fault)
    }

    private mutating func violated(_ fault: HTTP2Fault) -> HTTP2Event {
        end(fault.code)
        return .violated(fault)
    }

    /// The owner ends the connection at once.
    package mutating func end(_ code: HTTP2Code) {
        guard !isOver else { return }
        isOver = true
        output.goAway(lastStream: min(announcedLast ?? .max, lastPeerStream), code)
        streams = StreamTable()
        (waiting, due, resetByUs) = ([], [], [])
        mayWake = false
    }

    /// An answer was queued. True: so many wait that the peer does not read.
    mutating func answered() -> Bool {
        waitingAnswers += 1
        return waitingAnswers > limits.waitingAnswers
    }

    mutating func countControlFrame() throws(HTTP2Fault) {
        guard controlFrames.add(limits.controlFrames, now: now) else {
            throw .connection(.enhanceYourCalm, .tooManyControlFrames)
        }
    }

    // MARK: Streams

    func isOwn(_ stream: UInt32) -> Bool { (stream & 1 == 1) == (role == .client) }
    func isIdle(_ stream: UInt32) -> Bool { stream > (isOwn(stream) ? lastOwnStream : lastPeerStream) }

    mutating func add(_ stream: Stream) {
        if isOwn(stream.id) { ownStreams += 1 } else { peerStreams += 1 }
        streams.insert(stream)
    }
    mutating func remove(at index: Int) {
        if isOwn(streams[index].id) { ownStreams -= 1 } else { peerStreams -= 1 }
        returnGrowth(at: index)
        streams.remove(at: index)
        if streams.count == 0 { waiting = [] }
    }

    /// RST_STREAM.
    mutating func endStream(_ stream: UInt32, _ code: HTTP2Code) {
        output.resetStream(stream, code)
        // Heads that are under way: interim ones, the final one and trailers.
        controlFrames.excuse(4, credit: Self.credit)
        guard let index = streams.find(stream) else { return remember(stream) }
        if !streams[index].hasReceivedAll { remember(stream) }
        remove(at: index)
    }

    private mutating func remember(_ stream: UInt32) {
        guard !resetByUs.contains(stream) else { return }
        if resetByUs.count < limits.rememberedResets { return resetByUs.append(stream) }
        hasForgottenResets = true
        resetByUs[eldestReset] = stream
        eldestReset = (eldestReset + 1) % resetByUs.count
    }

    /// Of a closed stream: what was under way when we ended it, or is behind a GOAWAY, is no mistake (RFC 9113, 5.1
    /// and 6.8).
    func ignoresLateFrames(_ stream: UInt32) -> Bool {
        // A server's connection is shared: who gives up many requests at once must not end those of others.
        if role == .client, hasForgottenResets, isOwn(stream) { return true }
        return resetByUs.contains(stream) || stream > (isOwn(stream) ? peerAnnouncedLast : announcedLast) ?? .max
    }
}

extension UnsafeRawBufferPointer {
    package init(_ text: StaticString) { self.init(start: text.utf8Start, count: text.utf8CodeUnitCount) }
}
