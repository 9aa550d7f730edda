/// Everything but header blocks: DATA and the frames that manage streams and the connection (RFC 9113, 6).

extension HTTP2Machine {
    mutating func take(
        _ piece: FrameReader.Piece, _ input: UnsafeRawBufferPointer, _ fields: inout FieldList
    ) throws(HTTP2Fault) -> HTTP2Event? {
        switch piece {
        case .headers(let stream, let isLast, let place):
            return try receiveHeaders(stream, isLast: isLast, place, input, &fields)
        case .dataStart(let stream, let length, let padding): try receiveDataStart(stream, length, padding)
        case .data(let stream, let range, let isLast): return try receiveData(stream, range, isLast)
        case .resetStream(let stream, let code): return try receiveReset(stream, code)
        case .settings(let place):
            try countControlFrame()
            try receiveSettings(place, input)
            return .settings
        case .settingsAck:
            try countControlFrame()
            guard awaitsSettingsAck else { throw .connection(.protocolError, .unexpectedAck) }
            awaitsSettingsAck = false
            decoder.allow(tableSize: headerTable)
        case .ping(let data, let isAck):
            try countControlFrame()
            if isAck { return .pong(data) }
            output.ping(data, isAck: true)
            if answered() { throw .connection(.enhanceYourCalm, .peerDoesNotRead) }
        case .goAway(let lastStream, let code): return try receiveGoAway(lastStream, code)
        case .windowUpdate(let stream, let increment): try receiveWindowUpdate(stream, increment)
        case .ignored: try countControlFrame()
        }
        return nil
    }

    // MARK: DATA (6.1)

    private mutating func receiveDataStart(_ stream: UInt32, _ length: Int, _ padding: Int) throws(HTTP2Fault) {
        if isIdle(stream) { throw .connection(.protocolError, .unexpectedFrame) }
        // The connection's window pays for every frame, also for those of streams that are gone (6.9).
        guard length <= Int(receiveWindow) else { throw .connection(.flowControlError, .windowExceeded) }
        receiveWindow -= Int32(length)
        owed += UInt32(length)
        returnConnectionWindow()
        guard let index = streams.find(stream) else {
            if ignoresLateFrames(stream) { return }
            throw .connection(.streamClosed, .streamClosed)
        }
        if streams[index].hasReceivedAll { throw .stream(stream, .streamClosed, .streamClosed) }
        if case .head = streams[index].receiving { throw .stream(stream, .protocolError, .dataBeforeHead) }
        guard length <= Int(streams[index].receiveWindow) else {
            throw .stream(stream, .flowControlError, .windowExceeded)
        }
        streams[index].receiveWindow -= Int32(length)
        // Nobody has to consume padding.
        if padding > 0 { returnWindow(at: index, UInt32(padding)) }
    }

    private mutating func receiveData(
        _ stream: UInt32, _ range: Range<Int>, _ isLast: Bool
    ) throws(HTTP2Fault) -> HTTP2Event? {
        guard range.isEmpty, !isLast else {
            emptyFrames = 0
            if !range.isEmpty { controlFrames.excuse(1) }
            return try deliver(stream, range, isLast)
        }
        emptyFrames += 1
        guard emptyFrames <= limits.emptyFrames else { throw .connection(.enhanceYourCalm, .tooManyEmptyFrames) }
        return nil
    }

    private mutating func deliver(
        _ stream: UInt32, _ range: Range<Int>, _ isLast: Bool
    ) throws(HTTP2Fault) -> HTTP2Event? {
        // Gone since the frame began.
        guard let index = streams.find(stream) else { return nil }
        switch streams[index].receiving {
        case .body(.some(let left)):
            // RFC 9113, 8.1.1: the body is as long as content-length says.
            guard range.count <= left, !isLast || range.count == left else {
                throw .stream(stream, .protocolError, .bodyLength)
            }
            streams[index].receiving = .body(left: left - UInt64(range.count))
        case .body(nil), .tunnel: break
        case .discarded:
            if isLast { finishReceiving(at: index) } else { returnWindow(at: index, UInt32(range.count)) }
            return nil
        case .head, .ended: return nil
        }
        unread += range.count
        if isLast { finishReceiving(at: index) } else { watchReader(at: index) }
        return .data(stream: stream, range, isLast: isLast)
    }

    // MARK: RST_STREAM (6.4)

    private mutating func receiveReset(_ stream: UInt32, _ code: HTTP2Code) throws(HTTP2Fault) -> HTTP2Event? {
        if isIdle(stream) { throw .connection(.protocolError, .unexpectedFrame) }
        let index = streams.find(stream)
        if role == .server {
            guard resets.add(limits.resets, now: now) else { throw .connection(.enhanceYourCalm, .tooManyResets) }
        } else if index == nil {
            // A server ends only what we have asked for: gRPC's does so with each call that it ends first, and we may
            // have ended it meanwhile.
            try countControlFrame()
        }
        guard let index else { return nil }
        remove(at: index)
        return .reset(stream: stream, code)
    }

    // MARK: SETTINGS (6.5)

    private mutating func receiveSettings(
        _ place: FrameReader.Place, _ input: UnsafeRawBufferPointer
    ) throws(HTTP2Fault) {
        let bytes: [UInt8]
        switch place {
        case .input(let range): bytes = Array(input[range])
        case .held(let range): bytes = Array(reader.takeHeld()[range])
        }
        var settings = peer
        let fault: HTTP2Fault? = bytes.withUnsafeBytes { raw in
            for at in stride(from: 0, to: raw.count, by: 6) {
                let name = UInt16(raw[at]) << 8 | UInt16(raw[at + 1])
                // Others are ignored (6.5.2).
                guard let name = SettingName(rawValue: name) else { continue }
                if let code = apply(name, raw.number(at: at + 2), to: &settings) {
                    return .connection(code, .badSetting)
                }
            }
            return nil
        }
        if let fault { throw fault }
        try changeWindows(by: Int64(settings.initialWindowSize) - Int64(peer.initialWindowSize))
        peer = settings
        output.frame(.settings, .ack, stream: 0, length: 0)
        if answered() { throw .connection(.enhanceYourCalm, .peerDoesNotRead) }
    }

    /// One setting, in the order they come; the code if its value must not be.
    private mutating func apply(_ name: SettingName, _ value: UInt32, to settings: inout HTTP2Settings) -> HTTP2Code? {
        switch name {
        case .headerTableSize:
            settings.headerTableSize = value
            encoder.setPeerLimit(Int(value))
        // A server must not say that it pushes (6.5.2), for it is not asked to.
        case .enablePush: if value > 1 || value == 1 && role == .client { return .protocolError }
        case .maxConcurrentStreams: settings.maxConcurrentStreams = value
        case .initialWindowSize:
            if value > Self.largestStream { return .flowControlError }
            settings.initialWindowSize = value
        case .maxFrameSize:
            guard (16_384...16_777_215).contains(value) else { return .protocolError }
            settings.maxFrameSize = value
        case .maxHeaderListSize: settings.maxHeaderListSize = value
        case .enableConnectProtocol:
            // RFC 8441, 3: it is never taken back.
            if value > 1 || value == 0 && settings.enablesConnectProtocol { return .protocolError }
            settings.enablesConnectProtocol = value == 1
        }
        return nil
    }

    /// RFC 9113, 6.9.2: of all streams, below zero if need be.
    private mutating func changeWindows(by change: Int64) throws(HTTP2Fault) {
        guard change != 0 else { return }
        for index in streams.indices where streams[index].id != 0 {
            let window = Int64(streams[index].sendWindow) + change
            guard window <= Self.largestWindow else { throw .connection(.flowControlError, .windowOverflow) }
            streams[index].sendWindow = Int32(window)
        }
        if change > 0 { mayWake = true }
    }

    // MARK: GOAWAY (6.8)

    private mutating func receiveGoAway(_ last: UInt32, _ code: HTTP2Code) throws(HTTP2Fault) -> HTTP2Event? {
        try countControlFrame()
        // What was said to be undone may have been asked elsewhere by now.
        guard last <= peerAnnouncedLast ?? .max else { throw .connection(.protocolError, .goAwayRaised) }
        peerAnnouncedLast = last
        var undone: [UInt32] = []
        for index in streams.indices {
            let stream = streams[index].id
            if stream > last, isOwn(stream) { undone.append(stream) }
        }
        for stream in undone.sorted() {
            if let index = streams.find(stream) { remove(at: index) }
            due.append(.reset(stream: stream, .refusedStream))
        }
        return .goAway(lastStream: last, code)
    }
}
