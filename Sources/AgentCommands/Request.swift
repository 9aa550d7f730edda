/// `agentctl request`: one HTTP request as any program of this pod or node would send it. For `helm test`, and for
/// people in an image without curl.
import ArgumentParser
import Glibc
import Posix

struct Request: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Sends an HTTP request from here, and shows what is answered.",
        discussion: """
            Plain HTTP/1.1, GET. What --expect-... ask for is tried again once a second until it is so.

            Examples:
              agentctl request http://web.shop.svc/
              agentctl request http://web.shop.svc/cart --header 'end-user: jason'
              agentctl request http://web.shop.svc/ --expect-header 'version: v2' --within 9
            """)

    @Argument(help: "http://HOST[:PORT][/PATH]")
    var url: String
    @Option(help: "A header to send: 'name: value'. May be given several times.")
    var header: [String] = []
    @Option(help: "The status that the answer must have.")
    var expectStatus: Int?
    @Option(help: "A header that the answer must have: 'name: value'. May be given several times.")
    var expectHeader: [String] = []
    @Option(help: "Seconds until the answer must be as expected.")
    var within = 10

    func validate() throws {
        guard HTTPTarget(url) != nil else {
            throw ValidationError("\(url) is not like http://HOST[:PORT][/PATH]")
        }
        for text in header + expectHeader where headerParts(text) == nil {
            throw ValidationError("\(text) is not like 'name: value'")
        }
        guard (0...3600).contains(within) else { throw ValidationError("--within takes 0 to 3600 seconds") }
    }

    func run() throws {
        guard let target = HTTPTarget(url) else { return }
        let lines = header.compactMap(headerParts).map { "\($0.name): \($0.value)" }
        let end = ContinuousClock.now + .seconds(within)
        while true {
            let fault: String
            do throws(CommandFailure) {
                let answer = try target.get(lines)
                guard let unexpected = answer.fault(expectStatus, expectHeader) else {
                    return Output.tell(answer.text)
                }
                fault = unexpected
            } catch {
                fault = error.description
            }
            guard ContinuousClock.now < end else { throw CommandFailure(fault) }
            sleep(1)
        }
    }
}

/// `name: value`; nil: neither.
private func headerParts(_ text: String) -> (name: String, value: String)? {
    guard let colon = text.firstIndex(of: ":"), colon != text.startIndex,
        text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f })
    else { return nil }
    let value = text[text.index(after: colon)...].drop { $0 == " " }
    return (text[..<colon].lowercased(), String(value))
}

struct HTTPTarget {
    let host: String
    let port: String
    let path: String

    init?(_ url: String) {
        guard url.hasPrefix("http://"), url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { return nil }
        let rest = url.dropFirst(7)
        let authority = rest.prefix { $0 != "/" }
        path = rest.count > authority.count ? String(rest.dropFirst(authority.count)) : "/"
        // IPv6 addresses stand in brackets.
        let name: Substring
        let tail: Substring
        if authority.first == "[", let close = authority.firstIndex(of: "]") {
            name = authority[authority.index(after: authority.startIndex)..<close]
            tail = authority[authority.index(after: close)...]
        } else {
            name = authority.prefix { $0 != ":" }
            tail = authority.dropFirst(name.count)
        }
        guard !name.isEmpty, tail.isEmpty || tail.first == ":" && UInt16(tail.dropFirst()) != nil else { return nil }
        host = String(name)
        port = tail.isEmpty ? "80" : String(tail.dropFirst())
    }

    private var authority: String { (host.contains(":") ? "[\(host)]" : host) + (port == "80" ? "" : ":\(port)") }

    /// Longest that a connection, and each piece of the answer, may take.
    private static let patience = timeval(tv_sec: 5, tv_usec: 0)
    /// Of an answer as much is kept.
    private static let most = 1 << 20

    func get(_ headers: [String]) throws(CommandFailure) -> HTTPReply {
        let descriptor = try connected()
        defer { close(descriptor) }
        let lines = ["GET \(path) HTTP/1.1", "host: \(authority)", "connection: close"] + headers
        let outcome = writeAll(Array((lines + ["", ""]).joined(separator: "\r\n").utf8), to: descriptor)
        guard outcome.code == 0 else { throw failure("could not be asked", outcome.code) }
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while answer.count < Self.most {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure("broke off its answer", errno) }
            if count == 0 { break }
            answer += chunk[..<count]
            // Not everybody ends the connection when asked to.
            if HTTPReply(String(decoding: answer, as: UTF8.self))?.isWhole == true { break }
        }
        guard let reply = HTTPReply(String(decoding: answer, as: UTF8.self)) else {
            throw CommandFailure("\(host):\(port) gives no HTTP answer")
        }
        return reply
    }

    private func failure(_ what: String, _ code: Int32) -> CommandFailure {
        let reason = code == EAGAIN || code == EINPROGRESS ? "nothing came for 5 s" : String(cString: strerror(code))
        return CommandFailure("\(host):\(port) \(what): \(reason)")
    }

    private func connected() throws(CommandFailure) -> Int32 {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, port, &hints, &list)
        guard code == 0 else { throw CommandFailure("\(host) has no address: \(String(cString: gai_strerror(code)))") }
        defer { freeaddrinfo(list) }
        var last = ECONNREFUSED
        for entry in sequence(first: list, next: { $0?.pointee.ai_next }) {
            guard let entry = entry?.pointee else { break }
            let descriptor = socket(
                entry.ai_family, entry.ai_socktype | Int32(SOCK_CLOEXEC.rawValue), entry.ai_protocol)
            guard descriptor >= 0 else {
                last = errno
                continue
            }
            var patience = Self.patience
            for option in [SO_SNDTIMEO, SO_RCVTIMEO] {
                setsockopt(descriptor, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
            }
            if connect(descriptor, entry.ai_addr, entry.ai_addrlen) == 0 { return descriptor }
            last = errno
            close(descriptor)
        }
        throw failure("does not take the connection", last)
    }
}

struct HTTPReply {
    let status: Int
    /// Names in lower case.
    let headers: [(name: String, value: String)]
    /// As it came.
    let text: String
    /// It says how long it is, and is.
    let isWhole: Bool

    init?(_ answer: String) {
        let lines = answer.split(separator: "\r\n", omittingEmptySubsequences: false)
        let words = lines[0].split(separator: " ", maxSplits: 2)
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else { return nil }
        self.status = status
        headers = lines.dropFirst().prefix { !$0.isEmpty }.compactMap { headerParts(String($0)) }
        let body = answer.firstRange(of: "\r\n\r\n").map { answer[$0.upperBound...].utf8.count }
        let length = headers.first { $0.name == "content-length" }.flatMap { Int($0.value) }
        isWhole = body.flatMap { body in length.map { body >= $0 } } ?? false
        text = answer.replacing("\r\n", with: "\n") + (answer.last?.isNewline == true ? "" : "\n")
    }

    /// nil: it is as expected.
    func fault(_ status: Int?, _ expected: [String]) -> String? {
        if let status, status != self.status { return "the status is \(self.status) and not \(status)" }
        for wanted in expected.compactMap(headerParts)
        where !headers.contains(where: { $0.name == wanted.name && $0.value == wanted.value }) {
            let given = headers.first { $0.name == wanted.name }?.value
            return "the answer has \(given.map { "\(wanted.name): \($0)" } ?? "no header \(wanted.name)") and not "
                + "\(wanted.name): \(wanted.value)"
        }
        return nil
    }
}
