/// What a peer did wrong on the wire. Whoever violates the grammar gets one answer and the connection is closed: after
/// a mistake nobody can say where the next message begins, and guessing is what request smuggling lives on.

package struct WireViolation: Error, Hashable, Sendable, CustomStringConvertible {
    /// What a client is answered; what a backend sends wrongly is 502 instead, whatever stands here.
    package let status: UInt16
    /// One word or a few for logs and metrics, such as `bare_lf`.
    package let detail: WireFault

    package init(_ status: UInt16, _ detail: WireFault) {
        self.status = status
        self.detail = detail
    }
    package var description: String { "\(status) \(detail.rawValue)" }
}

/// Everything that can be wrong, so that a metric has a known set of labels.
package enum WireFault: String, Hashable, Sendable, CaseIterable {
    case bareLineFeed = "bare_lf"
    case bareCarriageReturn = "bare_cr"
    case badMethod = "bad_method"
    case badTarget = "bad_target"
    case badVersion = "bad_version"
    case unsupportedVersion = "unsupported_version"
    case badStatusLine = "bad_status_line"
    case badHeaderName = "bad_header_name"
    case badHeaderValue = "bad_header_value"
    case folding = "obs_fold"
    case startLineTooLong = "start_line_too_long"
    case headTooLong = "head_too_long"
    case tooManyHeaders = "too_many_headers"
    case badContentLength = "bad_content_length"
    case duplicateContentLength = "duplicate_content_length"
    case lengthAndChunked = "content_length_and_transfer_encoding"
    case badTransferEncoding = "bad_transfer_encoding"
    case unsupportedTransferEncoding = "unsupported_transfer_encoding"
    case missingHost = "missing_host"
    case duplicateHost = "duplicate_host"
    case badHost = "bad_host"
    case badConnection = "bad_connection"
    case unsupportedExpectation = "unsupported_expectation"
    case unsupportedProtocol = "unsupported_protocol"
    case badChunk = "bad_chunk"
    case badTrailer = "bad_trailer"
    case tooManyInterimAnswers = "too_many_interim_answers"
    case incompleteHead = "incomplete_head"
}
