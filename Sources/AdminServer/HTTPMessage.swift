/// Requests and answers of the small servers: metrics, health checks, the admin socket. Bodies of requests are ignored;
/// everything they need is in the path.

package struct HTTPRequest: Sendable, Equatable {
    package let method: String
    /// Without the query: `/verify`.
    package let path: String
    package let query: [String: String]

    package init(method: String = "GET", target: String) {
        self.method = method
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        path = percentDecoded(parts[0])
        var query: [String: String] = [:]
        for pair in parts.count > 1 ? parts[1].split(separator: "&") : [] {
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            query[percentDecoded(sides[0])] = sides.count > 1 ? percentDecoded(sides[1]) : ""
        }
        self.query = query
    }
}

package struct HTTPResponse: Sendable {
    package var status: Int
    package var headers: [(name: String, value: String)]
    package var body: [UInt8]

    package init(
        status: Int = 200, contentType: String, headers: [(name: String, value: String)] = [], body: [UInt8]
    ) {
        self.status = status
        self.headers = [("Content-Type", contentType)] + headers
        self.body = body
    }
    package static func text(_ text: String, status: Int = 200) -> HTTPResponse {
        HTTPResponse(status: status, contentType: "text/plain; charset=utf-8", body: Array(text.utf8))
    }
    package static let notFound = HTTPResponse.text("not found\n", status: 404)
}

/// Answers a request, at once or later and from any thread, exactly once.
package typealias HTTPResponder = @Sendable (HTTPRequest, @escaping @Sendable (HTTPResponse) -> Void) -> Void

/// `%41` -> `A`; what is no valid escape stays as it is.
private func percentDecoded(_ text: Substring) -> String {
    guard text.utf8.contains(UInt8(ascii: "%")) else { return String(text) }
    let input = Array(text.utf8)
    var output: [UInt8] = []
    var at = 0
    while at < input.count {
        if input[at] == UInt8(ascii: "%"), at + 2 < input.count,
            let byte = UInt8(String(decoding: input[at + 1...at + 2], as: UTF8.self), radix: 16)
        {
            output.append(byte)
            at += 3
        } else {
            output.append(input[at])
            at += 1
        }
    }
    return String(decoding: output, as: UTF8.self)
}
