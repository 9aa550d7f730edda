/// Flow control (RFC 9113, 5.2 and 6.9). Our windows start small and double each time as much as they hold was
/// consumed: a long transfer to an owner that keeps up fills any path, one that nobody takes costs its first window.

extension HTTP2Machine {
    // MARK: What the peer may send

    /// The owner has done with so much of what it was given in `data` events.
    package mutating func consumed(_ stream: UInt32, _ count: Int) {
        unread -= count
        let index = streams.find(stream)
        if index == nil { orphanedGrowth -= min(orphanedGrowth, UInt32(clamping: count)) }
        orphanedGrowth = min(orphanedGrowth, UInt32(clamping: unread))
        returnConnectionWindow()
        if let index { returnWindow(at: index, UInt32(count)) }
    }

    /// A stream that has ended needs no window.
    mutating func returnWindow(at index: Int, _ count: UInt32) {
        guard !isOver, !streams[index].hasReceivedAll else { return }
        let size = streams[index].windowSize
        let keptUp = waiting(at: index) <= Int(size / 2)
        streams[index].owed += count
        streams[index].used = keptUp ? min(size, streams[index].used + count) : 0
        guard streams[index].owed >= size / 2 else { return }
        let left = limits.streamGrowth - min(limits.streamGrowth, streamGrowth + orphanedGrowth)
        let growth = min(growth(of: size, used: streams[index].used), left / 2)
        let increment = streams[index].owed + growth
        if growth > 0 {
            streams[index].windowSize += growth
            streams[index].used = 0
            streamGrowth += growth
        }
        streams[index].owed = 0
        streams[index].receiveWindow += Int32(increment)
        output.windowUpdate(streams[index].id, increment)
    }

    /// A window that the owner leaves half full is not what holds the stream up, and does not grow.
    mutating func watchReader(at index: Int) {
        if waiting(at: index) > Int(streams[index].windowSize / 2) { streams[index].used = 0 }
    }
    /// Received, and not consumed yet.
    private func waiting(at index: Int) -> Int {
        Int(streams[index].windowSize) - Int(streams[index].receiveWindow) - Int(streams[index].owed)
    }

    /// What a stream had beyond its first window is others' again, but for what the owner has not consumed.
    mutating func returnGrowth(at index: Int) {
        let growth = streams[index].windowSize - streamWindow
        streamGrowth -= growth
        orphanedGrowth = min(orphanedGrowth + growth, UInt32(clamping: unread))
    }

    /// At once, and not when the owner has consumed: one stream that nobody reads must not hold up the others. But
    /// there is an end to what may lie unread.
    mutating func returnConnectionWindow() {
        guard !isOver, owed >= windowSize / 2,
            unread - Int(streamGrowth + orphanedGrowth) < limits.unread
        else { return }
        used = min(windowSize, used + owed)
        // Only for an owner that keeps up: what it leaves lying is bounded by `limits.unread` and one window.
        let growth = unread < Int(windowSize / 2) ? growth(of: windowSize, used: used) : 0
        if growth > 0 {
            windowSize += growth
            used = 0
        }
        let increment = owed + growth
        owed = 0
        receiveWindow += Int32(increment)
        output.windowUpdate(0, increment)
    }

    /// Windows double each time as much as they hold was used.
    private func growth(of size: UInt32, used: UInt32) -> UInt32 {
        used >= size && size < limits.largestWindow ? min(size, limits.largestWindow - size) : 0
    }

    // MARK: What we may send

    mutating func receiveWindowUpdate(_ stream: UInt32, _ increment: UInt32) throws(HTTP2Fault) {
        guard windowUpdates.add(limits.controlFrames, now: now) else {
            throw .connection(.enhanceYourCalm, .tooManyControlFrames)
        }
        guard stream != 0 else {
            guard increment > 0 else { throw .connection(.protocolError, .zeroIncrement) }
            let window = Int64(sendWindow) + Int64(increment)
            guard window <= Self.largestWindow else { throw .connection(.flowControlError, .windowOverflow) }
            sendWindow = Int32(window)
            mayWake = true
            return
        }
        if isIdle(stream) { throw .connection(.protocolError, .unexpectedFrame) }
        // Of a stream that has ended here it comes late (RFC 9113, 5.1).
        guard let index = streams.find(stream) else { return }
        guard increment > 0 else { throw .stream(stream, .protocolError, .zeroIncrement) }
        let window = Int64(streams[index].sendWindow) + Int64(increment)
        guard window <= Self.largestWindow else { throw .stream(stream, .flowControlError, .windowOverflow) }
        streams[index].sendWindow = Int32(window)
        mayWake = true
    }

    /// The stream that has waited longest of those that can send; who waits on is behind the others next time.
    mutating func wake() -> UInt32? {
        mayWake = false
        guard sendWindow > 0, !waiting.isEmpty else { return nil }
        var woken: UInt32?
        waiting.removeAll { stream in
            guard let index = streams.find(stream), streams[index].isWaiting else { return true }
            guard woken == nil, streams[index].sendWindow > 0 else { return false }
            streams[index].isWaiting = false
            woken = stream
            return true
        }
        mayWake = woken != nil
        return woken
    }

    mutating func wait(at index: Int) {
        guard !streams[index].isWaiting else { return }
        streams[index].isWaiting = true
        // Those that are gone must not gather while the connection's window is shut.
        if waiting.count > 2 * streams.count + 16 {
            waiting.removeAll { stream in streams.find(stream).map { !streams[$0].isWaiting } ?? true }
        }
        waiting.append(streams[index].id)
    }
}
