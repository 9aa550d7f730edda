/// The answers' bytes: pages of a list, and the lines of a watch.
import AsyncHTTPClient
import Cluster
import NIOCore
import PullJSON

extension WatchLoop {
    /// What one piece of an answer changed.
    struct Batch {
        var changes: [Change] = []
        /// These changes end the list.
        var completesList = false
        /// The rest of the answer is not wanted.
        var end: WatchMachine.End?
    }

    // MARK: Pages

    mutating func readPage(_ body: HTTPClientResponse.Body) async throws -> WatchMachine.End {
        var framer = ListFramer()
        var page = PageMetadata()
        for try await chunk in body {
            var batch = Batch()
            try framer.push(chunk.readableBytesUInt8Span) { piece, bytes in
                switch piece {
                case .metadata: page = try PageMetadata(bytes)
                case .item:
                    let reader = JSONReader(bytes)
                    take(try ObjectHead(reading: reader), reader, &batch)
                }
            }
            await deliver(batch)
        }
        guard framer.isComplete else { return .failed("ended its list in the middle") }
        guard !page.resourceVersion.isEmpty else { return .failed("sent a list without resourceVersion") }
        switch machine.receivedPage(resourceVersion: page.resourceVersion, continueToken: page.continueToken) {
        case .more: break
        case .endless(let reason): return .failed(reason)
        case .last:
            var batch = Batch()
            completeList(&batch)
            await deliver(batch)
        }
        return .closed
    }

    // MARK: Watches

    mutating func readStream(_ body: HTTPClientResponse.Body) async throws -> WatchMachine.End {
        var framer = LineFramer()
        for try await chunk in body {
            var batch = Batch()
            try framer.push(chunk.readableBytesUInt8Span) { line in
                if batch.end == nil { try readEvent(line, &batch) }
            }
            await deliver(batch)
            if let end = batch.end { return end }
        }
        return framer.isInsideEvent ? .failed("ended its watch in the middle of an event") : .closed
    }

    private mutating func readEvent(_ line: Span<UInt8>, _ batch: inout Batch) throws(JSONError) {
        let frame = try WatchEventFrame(reading: line)
        guard let type = frame.type else { return }
        if type == .error {
            var reader = frame.object
            batch.end = .refused(try APIStatus(reading: &reader))
            return
        }
        let head = try ObjectHead(reading: frame.object)
        switch meaning(of: head, type) {
        case .progress: break
        case .listComplete: completeList(&batch)
        case .noStreamedList: batch.end = .closed
        case .wentBack:
            batch.end = .wentBack
            return
        }
        switch type {
        case .added, .modified: take(head, frame.object, &batch)
        case .deleted:
            refusals.removeAll(of: head.objectName)
            if table.remove(head.objectName) {
                batch.changes.append(.delete(ObjectID(resource.kind, head.objectName)))
            }
        case .bookmark, .error: break
        }
    }

    private mutating func meaning(of head: ObjectHead, _ type: WatchEventType) -> WatchMachine.Meaning {
        let version = head.resourceVersion
        guard type == .bookmark else {
            return machine.received(resourceVersion: version, isDeletion: type == .deleted, now: now)
        }
        return machine.receivedBookmark(
            resourceVersion: version, isInitialEventsEnd: head.isInitialEventsEnd, now: now)
    }

    // MARK: Objects

    private mutating func take(_ head: ObjectHead, _ start: borrowing JSONReader, _ batch: inout Batch) {
        var reader = copy start
        let name = head.objectName
        do throws(DecodeError) {
            let object = try decoder.decode(resource.kind, json: &reader)
            table.put(object)
            refusals.set(decoder.notes, of: name)
            batch.changes.append(.upsert(object))
        } catch {
            table.keep(name)
            refusals.refuse(name, field: error.path, message: error.message)
            recorder.record(
                ObjectEvent(
                    ObjectID(resource.kind, name), reason: "InvalidObject",
                    message: "\(error.path): \(error.message); its last good version stays in force"))
        }
    }

    private mutating func completeList(_ batch: inout Batch) {
        switch table.endReplacing() {
        case .complete(let gone):
            batch.changes += gone.map { .delete(ObjectID(resource.kind, $0)) }
            batch.completesList = true
        case .doubted:
            machine.distrustList(delay: configuration.timing.doubt)
            batch.end = .closed
        }
    }

    private mutating func deliver(_ batch: Batch) async {
        showProgress()
        let reached = newVersion()
        if !batch.changes.isEmpty || batch.completesList || reached != nil {
            await mailbox.send(
                batch.changes, completing: batch.completesList ? resource.completes : nil,
                areOtherPodsComplete: batch.completesList && resource.isElsewhere,
                reached: reached.map { (resource.kind, $0) })
        }
    }

    /// Up to which all was told once the batch is; nil: as before. Pods come and go with who wants them.
    private mutating func newVersion() -> String? {
        guard machine.isWatching, resource.kind != .pod, machine.resourceVersion != toldVersion else { return nil }
        toldVersion = machine.resourceVersion
        return toldVersion
    }
}

extension ObjectHead {
    fileprivate var objectName: ObjectName { ObjectName(namespace, name) }
}

/// A list's own metadata.
private struct PageMetadata {
    var resourceVersion = ""
    /// Empty: this is the last page.
    var continueToken = ""

    init() {}
    init(_ bytes: Span<UInt8>) throws(JSONError) {
        var reader = JSONReader(bytes)
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch reader.text(of: key) {
            case "resourceVersion" where reader.token == .string: resourceVersion = try reader.readText()
            case "continue" where reader.token == .string: continueToken = try reader.readText()
            default: try reader.skipValue()
            }
        }
        try reader.finish()
    }
}
