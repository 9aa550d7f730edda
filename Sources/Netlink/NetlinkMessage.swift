/// One message out of a received datagram, read in place.

package struct NetlinkMessage: ~Escapable {
    /// Sizes of the headers in front of the attributes.
    package static let headerSize = 16

    package let type: UInt16
    package let flags: UInt16
    package let sequence: UInt32
    /// Port of the socket that caused the message; 0: the kernel.
    package let portID: UInt32
    package let payload: RawSpan

    @_lifetime(copy payload)
    fileprivate init(type: UInt16, flags: UInt16, sequence: UInt32, portID: UInt32, payload: RawSpan) {
        self.type = type
        self.flags = flags
        self.sequence = sequence
        self.portID = portID
        self.payload = payload
    }

    /// The attributes behind a protocol header of `offset` bytes (4 for nfgenmsg).
    @_lifetime(copy self)
    package func attributes(after offset: Int) -> AttributeReader {
        AttributeReader(payload.extracting(min(offset, payload.byteCount)..<payload.byteCount))
    }
    /// A byte of the payload; 0 when it is too short.
    package func byte(_ offset: Int) -> UInt8 {
        offset < payload.byteCount ? payload.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt8.self) : 0
    }
    /// The errno in an error message (0: acknowledgement) or at the end of a list; nil when this is neither.
    package var errorCode: Int32? {
        guard type == MessageType.error || type == MessageType.done, payload.byteCount >= 4 else { return nil }
        return 0 &- payload.unsafeLoadUnaligned(as: Int32.self)
    }
}

/// Walks the messages of one datagram.
package struct MessageReader: ~Escapable {
    private let span: RawSpan
    private var position = 0

    @_lifetime(copy span)
    package init(_ span: RawSpan) { self.span = span }

    @_lifetime(copy self)
    package mutating func next() -> NetlinkMessage? {
        let header = NetlinkMessage.headerSize
        guard span.byteCount - position >= header else { return nil }
        let length = Int(span.unsafeLoadUnaligned(fromByteOffset: position, as: UInt32.self))
        guard length >= header, length <= span.byteCount - position else {
            position = span.byteCount
            return nil
        }
        let at = position
        position = min(at + (length + 3) & ~3, span.byteCount)
        return NetlinkMessage(
            type: span.unsafeLoadUnaligned(fromByteOffset: at + 4, as: UInt16.self),
            flags: span.unsafeLoadUnaligned(fromByteOffset: at + 6, as: UInt16.self),
            sequence: span.unsafeLoadUnaligned(fromByteOffset: at + 8, as: UInt32.self),
            portID: span.unsafeLoadUnaligned(fromByteOffset: at + 12, as: UInt32.self),
            payload: span.extracting(at + header..<at + length))
    }
}

/// Control messages, the same in every netlink protocol.
package enum MessageType {
    package static let error: UInt16 = 2
    package static let done: UInt16 = 3
    package static let overrun: UInt16 = 4
}

/// Flags of a netlink message.
package enum MessageFlag {
    package static let request: UInt16 = 0x1
    package static let ack: UInt16 = 0x4
    package static let dumpInterrupted: UInt16 = 0x10
    /// For requests that list: everything (NLM_F_ROOT | NLM_F_MATCH).
    package static let dump: UInt16 = 0x300
    /// For requests that make something.
    package static let exclusive: UInt16 = 0x200
    package static let create: UInt16 = 0x400
    package static let append: UInt16 = 0x800
}
