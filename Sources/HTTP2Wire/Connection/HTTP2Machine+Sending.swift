/// What the owner sends: heads, data, trailers, resets, goodbyes.

extension HTTP2Machine {
    // MARK: Heads

    /// A client's request: the number of its stream.
    package mutating func open(_ fields: FieldList, isLast: Bool) throws(SendRefusal) -> UInt32 {
        guard acceptsStreams, role == .client else { throw .goingAway }
        guard ownStreams < peer.maxConcurrentStreams ?? .max else { throw .tooManyStreams }
        try checkSize(fields)
        let facts = try checked { () throws(Malformed) in try HeadRules.request(fields) }
        guard facts.protocol == nil || peer.enablesConnectProtocol else { throw .extendedConnectNotOffered }
        let stream = lastOwnStream == 0 ? 1 : lastOwnStream + 2
        lastOwnStream = stream
        let receiving = Stream.Receiving.head(interims: 0, isHEAD: facts.isHEAD, isCONNECT: facts.isCONNECT)
        add(newStream(stream, receiving, isLast ? .ended : .body))
        write(stream, fields, isLast: isLast)
        return stream
    }

    /// A server's response, an interim one or the final.
    package mutating func sendHead(_ stream: UInt32, _ fields: FieldList, isLast: Bool) throws(SendRefusal) {
        let index = try find(stream)
        guard streams[index].sending == .head else { throw .wrongState }
        try checkSize(fields)
        let facts = try checked { () throws(Malformed) in try HeadRules.response(fields) }
        guard !facts.isInterim || !isLast else { throw .malformed(.badStatus) }
        write(stream, fields, isLast: isLast)
        if !facts.isInterim { streams[index].sending = .body }
        if isLast { finishSending(at: index) }
    }

    /// Behind all data; they end the stream.
    package mutating func sendTrailers(_ stream: UInt32, _ fields: FieldList) throws(SendRefusal) {
        let index = try find(stream)
        guard streams[index].sending == .body else { throw .wrongState }
        try checkSize(fields)
        try checked { () throws(Malformed) in try HeadRules.trailers(fields) }
        write(stream, fields, isLast: true)
        finishSending(at: index)
    }

    private mutating func write(_ stream: UInt32, _ fields: FieldList, isLast: Bool) {
        output.headers(
            fields, with: &encoder, stream: stream, isLast: isLast, maxFrameSize: Int(peer.maxFrameSize))
    }
    private func find(_ stream: UInt32) throws(SendRefusal) -> Int {
        guard let index = streams.find(stream) else { throw .closed }
        return index
    }
    private func checkSize(_ fields: FieldList) throws(SendRefusal) {
        if let limit = peer.maxHeaderListSize, fields.size > limit { throw .headTooLong }
    }
    private func checked<Result>(_ rule: () throws(Malformed) -> Result) throws(SendRefusal) -> Result {
        do throws(Malformed) { return try rule() } catch { throw .malformed(error.kind) }
    }
    private mutating func finishSending(at index: Int) {
        streams[index].sending = .ended
        if streams[index].isClosed { remove(at: index) }
    }

    // MARK: Data

    /// How much of it the windows let out, which was copied; `writable` tells when there is room for the rest.
    /// `isLast` counts once all is out.
    package mutating func sendData(
        _ stream: UInt32, _ bytes: UnsafeRawBufferPointer, isLast: Bool
    ) throws(SendRefusal) -> Int {
        var sent = 0
        repeat {
            let count = try beginData(stream, bytes.count - sent, isLast: isLast)
            output.append(UnsafeRawBufferPointer(rebasing: bytes[sent..<sent + count]))
            sent += count
            if count == 0 { break }
        } while sent < bytes.count
        return sent
    }

    /// Writes the head of one DATA frame, for so many of `count` bytes as the answer says: exactly those follow
    /// `output`, sent from wherever they lie. 0 of more: nothing was written, and `writable` will come.
    package mutating func beginData(_ stream: UInt32, _ count: Int, isLast: Bool) throws(SendRefusal) -> Int {
        let index = try find(stream)
        guard streams[index].sending == .body else { throw .wrongState }
        let room = min(Int(sendWindow), Int(streams[index].sendWindow), Int(peer.maxFrameSize))
        let length = min(count, max(room, 0))
        if length < count, length == room || room <= 0, length < Int(peer.maxFrameSize) { wait(at: index) }
        guard length > 0 || count == 0 else { return 0 }
        if count == 0, !isLast { return 0 }
        let ends = isLast && length == count
        output.frame(.data, ends ? .endStream : [], stream: stream, length: length)
        sendWindow -= Int32(length)
        streams[index].sendWindow -= Int32(length)
        // Some return the window for each few hundred bytes, and long after; but who opens it byte by byte has us cut
        // data up for it. gRPC measures its windows by a PING behind DATA.
        windowUpdates.excuse((length == count ? 4 : 0) + Int64(length) >> 7, credit: Self.credit)
        controlFrames.excuse(1)
        if ends { finishSending(at: index) }
        return length
    }

    // MARK: Ends

    /// Nothing more will be heard of the stream.
    package mutating func reset(_ stream: UInt32, _ code: HTTP2Code) {
        guard streams.find(stream) != nil else { return }
        endStream(stream, code)
    }

    /// The first step of a goodbye (RFC 9113, 6.8): no more streams shall be opened, but those under way are served.
    /// After a round trip (a `ping` tells) follows `finishShutdown`.
    package mutating func beginShutdown() {
        guard !isOver, announcedLast == nil else { return }
        announcedLast = Self.largestStream
        output.goAway(lastStream: Self.largestStream, .noError)
    }

    /// The second: what comes from now on is not looked at; `isFinished` once the last stream has ended.
    package mutating func finishShutdown() {
        guard !isOver, announcedLast ?? .max > lastPeerStream else { return }
        announcedLast = lastPeerStream
        output.goAway(lastStream: lastPeerStream, .noError)
    }

    package mutating func ping(_ data: UInt64) {
        if !isOver { output.ping(data, isAck: false) }
    }
}
