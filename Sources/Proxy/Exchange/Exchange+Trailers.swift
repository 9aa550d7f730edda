/// Fields behind a body: what a route or the proxy vouches for is theirs there as well, in both directions.
import HTTPWire
import NIOCore
import RouteIR

extension Exchange {
    /// What of a trailer, each line with its CRLF and the empty one, may be sent on. nil: nothing.
    func allowed(trailer: ByteBuffer, isRequest: Bool) -> ByteBuffer? {
        let kept = trailer.withUnsafeReadableBytes { raw in
            trailerLines(raw) { name in !isEdited(name, isRequest: isRequest) }
        }
        guard var kept else { return trailer }
        guard !kept.isEmpty else { return nil }
        kept += [0x0d, 0x0a]
        return ByteBuffer(bytes: kept)
    }

    /// The bytes of a chunked body that were just read, its trailer held back until it is whole. `earlier`: how many
    /// bytes of the trailer had come before.
    func forwarded(_ raw: ByteBuffer, of body: BodyReader, trailerBytes earlier: Int, isRequest: Bool) -> ByteBuffer {
        let held = body.trailers.count - earlier
        // Most have none, and their empty line comes with the last chunk.
        guard held > 0, !(body.isComplete && held == 2 && earlier == 0) else { return raw }
        var bytes = raw
        bytes.moveWriterIndex(to: raw.writerIndex - held)
        if body.isComplete {
            let trailer = allowed(trailer: ByteBuffer(bytes: body.trailers), isRequest: isRequest)
            bytes.writeImmutableBuffer(trailer ?? ByteBuffer(staticString: "\r\n"))
        }
        return bytes
    }

    /// Whether a filter of the route sets, adds or removes fields of this name.
    private func isEdited(_ name: UnsafeRawBufferPointer, isRequest: Bool) -> Bool {
        let (rule, backend) = (plan, target?.backend)
        return isEdited(name, isRequest ? rule?.filters.requestHeaders : rule?.filters.responseHeaders)
            || isEdited(name, isRequest ? backend?.filters.requestHeaders : backend?.filters.responseHeaders)
    }
    private func isEdited(_ name: UnsafeRawBufferPointer, _ edits: [HeaderEdit]?) -> Bool {
        for edit in edits ?? [] {
            let fields = edit.set.contains { isSame($0.name, name) } || edit.add.contains { isSame($0.name, name) }
            if fields || edit.remove.contains(where: { isSame($0, name) }) { return true }
        }
        return false
    }

    private func isSame(_ text: String, _ name: UnsafeRawBufferPointer) -> Bool {
        text.utf8.count == name.count && text.lowercased() == String(decoding: name, as: UTF8.self).lowercased()
    }
}
