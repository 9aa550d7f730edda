/// The form of frames (RFC 9113, 4.1 and 6): types, flags, settings.

enum FrameType: UInt8 {
    case data = 0, headers, priority, resetStream, settings, pushPromise, ping, goAway, windowUpdate, continuation
}

struct FrameFlags: OptionSet, Sendable, BitwiseCopyable {
    let rawValue: UInt8
    static let endStream = Self(rawValue: 0x1)
    static let ack = Self(rawValue: 0x1)
    static let endHeaders = Self(rawValue: 0x4)
    static let padded = Self(rawValue: 0x8)
    static let priority = Self(rawValue: 0x20)
}

struct FrameHeader: Sendable, BitwiseCopyable {
    static let size = 9
    var length: Int
    /// nil: one that we do not know, which is ignored (RFC 9113, 4.1 and 5.5).
    var type: FrameType?
    var flags: FrameFlags
    var stream: UInt32

    /// Of nine bytes. The reserved bit means nothing.
    init(_ bytes: UnsafeRawBufferPointer) {
        length = Int(bytes[0]) << 16 | Int(bytes[1]) << 8 | Int(bytes[2])
        type = FrameType(rawValue: bytes[3])
        flags = FrameFlags(rawValue: bytes[4])
        stream = bytes.number(at: 5) & 0x7fff_ffff
    }
}

/// The settings we know (RFC 9113, 6.5.2; RFC 8441, 3).
enum SettingName: UInt16 {
    case headerTableSize = 1, enablePush, maxConcurrentStreams, initialWindowSize, maxFrameSize, maxHeaderListSize
    case enableConnectProtocol = 8
}

/// What a side has told of itself, with the values that hold before it does.
package struct HTTP2Settings: Hashable, Sendable {
    package var headerTableSize: UInt32 = 4096
    /// nil: as many as you like.
    package var maxConcurrentStreams: UInt32?
    package var initialWindowSize: UInt32 = 65_535
    package var maxFrameSize: UInt32 = 16_384
    package var maxHeaderListSize: UInt32?
    package var enablesConnectProtocol = false

    package init() {}
}

extension UnsafeRawBufferPointer {
    /// Four bytes, big-endian.
    @inline(__always) func number(at offset: Int) -> UInt32 {
        UInt32(self[offset]) << 24 | UInt32(self[offset + 1]) << 16 | UInt32(self[offset + 2]) << 8
            | UInt32(self[offset + 3])
    }
}

/// Frames as they are sent. A header block is split where the peer's frames end.
extension ByteStore {
    mutating func frame(_ type: FrameType, _ flags: FrameFlags = [], stream: UInt32, length: Int) {
        append(UInt64(length) << 16 | UInt64(type.rawValue) << 8 | UInt64(flags.rawValue), size: 5)
        append(UInt64(stream), size: 4)
    }

    mutating func resetStream(_ stream: UInt32, _ code: HTTP2Code) {
        frame(.resetStream, stream: stream, length: 4)
        append(UInt64(code.rawValue), size: 4)
    }

    mutating func windowUpdate(_ stream: UInt32, _ increment: UInt32) {
        frame(.windowUpdate, stream: stream, length: 4)
        append(UInt64(increment), size: 4)
    }

    mutating func ping(_ data: UInt64, isAck: Bool) {
        frame(.ping, isAck ? .ack : [], stream: 0, length: 8)
        append(data, size: 8)
    }

    mutating func goAway(lastStream: UInt32, _ code: HTTP2Code) {
        frame(.goAway, stream: 0, length: 8)
        append(UInt64(lastStream), size: 4)
        append(UInt64(code.rawValue), size: 4)
    }

    /// Only what differs from what holds without being said.
    mutating func settings(_ settings: HTTP2Settings, isClient: Bool) {
        let defaults = HTTP2Settings()
        var list: [(SettingName, UInt32)] = []
        if settings.headerTableSize != defaults.headerTableSize {
            list.append((.headerTableSize, settings.headerTableSize))
        }
        // Nobody pushes: RFC 9113, 8.4, is for others.
        if isClient { list.append((.enablePush, 0)) }
        if let streams = settings.maxConcurrentStreams { list.append((.maxConcurrentStreams, streams)) }
        if settings.initialWindowSize != defaults.initialWindowSize {
            list.append((.initialWindowSize, settings.initialWindowSize))
        }
        if settings.maxFrameSize != defaults.maxFrameSize { list.append((.maxFrameSize, settings.maxFrameSize)) }
        if let size = settings.maxHeaderListSize { list.append((.maxHeaderListSize, size)) }
        if settings.enablesConnectProtocol { list.append((.enableConnectProtocol, 1)) }
        frame(.settings, stream: 0, length: 6 * list.count)
        for (name, value) in list {
            append(UInt64(name.rawValue), size: 2)
            append(UInt64(value), size: 4)
        }
    }

    /// HEADERS, and CONTINUATION for what does not fit (RFC 9113, 4.3).
    mutating func headers(
        _ list: FieldList, with encoder: inout HPACKEncoder, stream: UInt32, isLast: Bool, maxFrameSize: Int
    ) {
        let start = count
        frame(.headers, isLast ? .endStream : [], stream: stream, length: 0)
        encoder.encode(list, to: &self)
        var at = start
        var rest = count - start - FrameHeader.size
        while rest > maxFrameSize {
            set(UInt64(maxFrameSize), size: 3, at: at)
            at += FrameHeader.size + maxFrameSize
            rest -= maxFrameSize
            insert(UInt64(FrameType.continuation.rawValue) << 8, size: 5, at: at)
            insert(UInt64(stream), size: 4, at: at + 5)
        }
        set(UInt64(rest), size: 3, at: at)
        add(.endHeaders, at: at)
    }

    private mutating func add(_ flag: FrameFlags, at frame: Int) {
        let flags = withBytes { $0[frame + 4] }
        set(UInt64(flags | flag.rawValue), size: 1, at: frame + 4)
    }
}
