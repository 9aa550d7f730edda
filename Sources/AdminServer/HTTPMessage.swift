/// Requests and answers of the small servers: metrics, health checks, admin sockets, the controller's doors.
import NIOCore

package struct HTTPRequest: Sendable {
    package let method: String
    /// Without the query: `/verify`.
    package let path: String
    package let query: [String: String]
    /// Names in lower case, in the order they came.
    package let headers: [(name: String, value: String)]
    package let body: [UInt8]
    /// The client's address without its port; empty over a Unix socket.
    package let peer: String

    package init(
        method: String = "GET", target: String, headers: [(name: String, value: String)] = [], body: [UInt8] = [],
        peer: String = ""
    ) {
        self.method = method
        self.headers = headers
        self.body = body
        self.peer = peer
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        path = percentDecoded(parts[0])
        var query: [String: String] = [:]
        for pair in parts.count > 1 ? parts[1].split(separator: "&") : [] {
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            query[percentDecoded(sides[0])] = sides.count > 1 ? percentDecoded(sides[1]) : ""
        }
        self.query = query
    }

    /// The first one of that name, which is given in lower case.
    package func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
}

package struct HTTPResponse: Sendable {
    package var status: Int
    package var headers: [(name: String, value: String)]
    package var body: [UInt8]
    package var trailers: [(name: String, value: String)]

    package init(
        status: Int = 200, contentType: String, headers: [(name: String, value: String)] = [], body: [UInt8],
        trailers: [(name: String, value: String)] = []
    ) {
        self.status = status
        self.headers = [("Content-Type", contentType)] + headers
        self.body = body
        self.trailers = trailers
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

extension SocketAddress {
    /// Without the port; an IPv4 address as such, though a socket for both families calls it `::ffff:10.0.0.1`.
    var peer: String {
        guard let text = ipAddress else { return "" }
        let mapped = "::ffff:"
        return text.hasPrefix(mapped) && text.contains(".") ? String(text.dropFirst(mapped.count)) : text
    }
}

/// Its headers may hold a token, its body a Secret that is judged.
extension HTTPRequest: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "\(method) \(path)" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: []) }
}
