/// Header blocks: requests, responses, interim ones, trailers.

extension HTTP2Machine {
    mutating func receiveHeaders(
        _ stream: UInt32, isLast: Bool, _ place: FrameReader.Place, _ input: UnsafeRawBufferPointer,
        _ fields: inout FieldList
    ) throws(HTTP2Fault) -> HTTP2Event? {
        emptyFrames = 0
        // Whatever is wrong with the stream, the table stays the peer's (RFC 9113, 4.3).
        let isWithin = try decode(place, input, &fields)
        guard let index = streams.find(stream) else {
            guard isIdle(stream) else {
                // RFC 9113, 5.1.1: numbers that were left out were never opened.
                if skipped.contains(stream) { throw .connection(.protocolError, .badStreamID) }
                guard ignoresLateFrames(stream) else { throw .connection(.streamClosed, .streamClosed) }
                try countControlFrame()
                return nil
            }
            return try receiveRequest(stream, isLast, isWithin, fields)
        }
        controlFrames.excuse(1)
        switch streams[index].receiving {
        case .ended: throw .stream(stream, .streamClosed, .streamClosed)
        case .discarded:
            if isLast { finishReceiving(at: index) }
            return nil
        case .tunnel: throw .stream(stream, .protocolError, .unexpectedFrame)
        case .head(let interims, let isHEAD, let isCONNECT):
            guard isWithin else { throw .stream(stream, .enhanceYourCalm, .headTooLong) }
            let facts = try checked(stream) { () throws(Malformed) in try HeadRules.response(fields) }
            if facts.isInterim {
                // RFC 9113, 8.1: the end of a stream is the final response's.
                guard !isLast else { throw .stream(stream, .protocolError, .badStatus) }
                guard interims < limits.interimAnswers else {
                    throw .stream(stream, .enhanceYourCalm, .tooManyInterimAnswers)
                }
                streams[index].receiving = .head(interims: interims + 1, isHEAD: isHEAD, isCONNECT: isCONNECT)
                return .interim(stream: stream, facts)
            }
            try beginResponse(at: index, facts, isHEAD: isHEAD, isCONNECT: isCONNECT, isLast: isLast)
            return .head(stream: stream, facts, isLast: isLast)
        case .body(let left):
            // RFC 9113, 8.1: trailers end their stream, and the body before them is whole.
            guard isLast else { throw .stream(stream, .protocolError, .badTrailers) }
            guard left ?? 0 == 0 else { throw .stream(stream, .protocolError, .bodyLength) }
            guard isWithin else { throw .stream(stream, .enhanceYourCalm, .headTooLong) }
            try checked(stream) { () throws(Malformed) in try HeadRules.trailers(fields) }
            finishReceiving(at: index)
            return .trailers(stream: stream)
        }
    }

    private mutating func decode(
        _ place: FrameReader.Place, _ input: UnsafeRawBufferPointer, _ fields: inout FieldList
    ) throws(HTTP2Fault) -> Bool {
        fields.removeAll()
        let isWithin: Result<Bool, HPACKFault>
        switch place {
        case .input(let range): isWithin = decode(UnsafeRawBufferPointer(rebasing: input[range]), &fields)
        case .held(let range):
            let held = reader.takeHeld()
            isWithin = held.withUnsafeBytes { decode(UnsafeRawBufferPointer(rebasing: $0[range]), &fields) }
            reader.giveBack(held)
        }
        do throws(HPACKFault) { return try isWithin.get() } catch {
            throw error == .tooLarge
                ? .connection(.enhanceYourCalm, .headerBlockTooLong) : .connection(.compressionError, .headerBlock)
        }
    }
    private mutating func decode(
        _ block: UnsafeRawBufferPointer, _ fields: inout FieldList
    ) -> Result<Bool, HPACKFault> {
        Result { () throws(HPACKFault) in try decoder.decode(block, into: &fields, limit: limits.headerList) }
    }

    private func checked<Result>(
        _ stream: UInt32, _ rule: () throws(Malformed) -> Result
    ) throws(HTTP2Fault) -> Result {
        do throws(Malformed) { return try rule() } catch { throw .stream(stream, .protocolError, error.kind) }
    }

    // MARK: Requests

    private mutating func receiveRequest(
        _ stream: UInt32, _ isLast: Bool, _ isWithin: Bool, _ fields: FieldList
    ) throws(HTTP2Fault) -> HTTP2Event? {
        // RFC 9113, 5.1.1: clients open streams with odd numbers, servers only by promises, which we refuse.
        guard role == .server, !isOwn(stream) else { throw .connection(.protocolError, .badStreamID) }
        if stream > lastPeerStream + 2 { skipped = lastPeerStream + 1..<stream }
        lastPeerStream = stream
        // Behind our GOAWAY: the client will ask elsewhere (RFC 9113, 6.8).
        if stream > announcedLast ?? .max {
            try countControlFrame()
            return nil
        }
        controlFrames.excuse(1)
        windowUpdates.excuse(4)
        guard peerStreams < limits.streams else { throw .stream(stream, .refusedStream, .tooManyStreams) }
        var fault: HTTP2Fault?
        var facts = HeadFacts()
        if isWithin {
            do throws(HTTP2Fault) {
                facts = try checked(stream) { () throws(Malformed) in
                    try HeadRules.request(fields, allowsProtocol: limits.offersExtendedConnect)
                }
                // RFC 9113, 8.1.1: what was said is what comes.
                if isLast, !facts.isCONNECT, facts.contentLength ?? 0 != 0 {
                    throw .stream(stream, .protocolError, .bodyLength)
                }
            } catch { fault = error }
        } else {
            fault = .stream(stream, .enhanceYourCalm, .headTooLong)
        }
        let receiving: Stream.Receiving =
            isLast ? .ended : fault != nil ? .discarded : facts.isCONNECT ? .tunnel : .body(left: facts.contentLength)
        add(newStream(stream, receiving, .head))
        guard let fault else { return .head(stream: stream, facts, isLast: isLast) }
        guard resets.add(limits.resets, now: now) else { throw .connection(.enhanceYourCalm, .tooManyResets) }
        return .malformed(stream: stream, fault)
    }

    func newStream(_ stream: UInt32, _ receiving: Stream.Receiving, _ sending: Stream.Sending) -> Stream {
        Stream(stream, receiving, sending, sendWindow: Int32(peer.initialWindowSize), windowSize: streamWindow)
    }

    // MARK: Responses

    private mutating func beginResponse(
        at index: Int, _ facts: HeadFacts, isHEAD: Bool, isCONNECT: Bool, isLast: Bool
    ) throws(HTTP2Fault) {
        let hasNoBody = isHEAD || facts.status == 204 || facts.status == 304
        // RFC 9113, 8.5: a tunnel stands with any 2xx.
        let isTunnel = isCONNECT && facts.status < 300
        let length = hasNoBody ? 0 : isTunnel ? nil : facts.contentLength
        guard isLast else {
            streams[index].receiving = isTunnel ? .tunnel : .body(left: length)
            return
        }
        guard length ?? 0 == 0 else { throw .stream(streams[index].id, .protocolError, .bodyLength) }
        finishReceiving(at: index)
    }

    /// END_STREAM has come.
    mutating func finishReceiving(at index: Int) {
        streams[index].receiving = .ended
        if streams[index].isClosed { remove(at: index) }
    }
}
