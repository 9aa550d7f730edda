/// What a peer did wrong, whom it concerns, and the code it is told (RFC 9113, 5.4 and 7).

package struct HTTP2Code: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let noError = Self(rawValue: 0)
    package static let protocolError = Self(rawValue: 1)
    package static let internalError = Self(rawValue: 2)
    package static let flowControlError = Self(rawValue: 3)
    package static let settingsTimeout = Self(rawValue: 4)
    package static let streamClosed = Self(rawValue: 5)
    package static let frameSizeError = Self(rawValue: 6)
    package static let refusedStream = Self(rawValue: 7)
    package static let cancel = Self(rawValue: 8)
    package static let compressionError = Self(rawValue: 9)
    package static let connectError = Self(rawValue: 10)
    package static let enhanceYourCalm = Self(rawValue: 11)
    package static let inadequateSecurity = Self(rawValue: 12)
    package static let http11Required = Self(rawValue: 13)
}

package struct HTTP2Fault: Error, Hashable, Sendable, CustomStringConvertible {
    package let code: HTTP2Code
    /// 0: the connection is at its end.
    package let stream: UInt32
    package let kind: HTTP2FaultKind

    static func connection(_ code: HTTP2Code, _ kind: HTTP2FaultKind) -> Self {
        Self(code: code, stream: 0, kind: kind)
    }
    static func stream(_ stream: UInt32, _ code: HTTP2Code, _ kind: HTTP2FaultKind) -> Self {
        Self(code: code, stream: stream, kind: kind)
    }
    package var description: String { "\(kind.rawValue), code \(code.rawValue), stream \(stream)" }
}

/// Everything that can be wrong, so that a metric has a known set of labels.
package enum HTTP2FaultKind: String, Hashable, Sendable, CaseIterable {
    // Frames.
    case badPreface = "bad_preface"
    case settingsExpected = "settings_expected"
    case frameTooLong = "frame_too_long"
    case badFrameSize = "bad_frame_size"
    case badPadding = "bad_padding"
    case badStreamID = "bad_stream_id"
    case unexpectedFrame = "unexpected_frame"
    case unexpectedContinuation = "unexpected_continuation"
    case continuationExpected = "continuation_expected"
    case pushRefused = "push_refused"
    case badSetting = "bad_setting"
    case unexpectedAck = "unexpected_settings_ack"
    case zeroIncrement = "zero_window_increment"
    case windowOverflow = "window_overflow"
    case windowExceeded = "window_exceeded"
    case goAwayRaised = "goaway_raised"
    case streamClosed = "frame_on_closed_stream"
    case headerBlock = "bad_header_block"
    // Messages.
    case badFieldName = "bad_field_name"
    case badFieldValue = "bad_field_value"
    case badPseudoField = "bad_pseudo_field"
    case connectionField = "connection_field"
    case badMethod = "bad_method"
    case badScheme = "bad_scheme"
    case badPath = "bad_path"
    case badAuthority = "bad_authority"
    case badStatus = "bad_status"
    case badContentLength = "bad_content_length"
    case bodyLength = "content_length_and_data"
    case badTrailers = "bad_trailers"
    case dataBeforeHead = "data_before_head"
    case extendedConnectNotOffered = "extended_connect_not_offered"
    case headTooLong = "head_too_long"
    // Floods.
    case tooManyStreams = "too_many_streams"
    case tooManyResets = "reset_flood"
    case tooManyControlFrames = "control_frame_flood"
    case tooManyEmptyFrames = "empty_data_flood"
    case tooManyContinuations = "continuation_flood"
    case tooManyInterimAnswers = "interim_answer_flood"
    case headerBlockTooLong = "header_block_too_long"
    case peerDoesNotRead = "peer_does_not_read"
}
