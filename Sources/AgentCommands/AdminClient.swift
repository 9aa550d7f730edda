/// Asks the agent or the controller over its Unix socket: one request, one connection, blocking.
import AdminAPI
import FoundationEssentials
import Glibc
import Posix

struct AdminClient {
    /// Who answers there.
    enum Program: String {
        case agent, controller
    }
    let socket: String
    var program = Program.agent

    /// The body of a successful answer.
    func get(_ path: String, _ query: [(name: String, value: String)] = []) throws(CommandFailure) -> [UInt8] {
        let pairs = query.map { "\($0.name)=\(percentEncoded($0.value))" }.joined(separator: "&")
        let target = pairs.isEmpty ? path : path + "?" + pairs
        let answer = try exchange("GET \(target) HTTP/1.0\r\n\r\n")
        guard let (status, body) = parse(answer) else {
            throw CommandFailure("\(socket) does not answer like a heddle \(program.rawValue)")
        }
        guard status == 200 else {
            let sentence = (try? JSONDecoder().decode(AdminFailure.self, from: Data(body)))?.error
            throw CommandFailure(sentence ?? "the \(program.rawValue) answered with status \(status)")
        }
        return body
    }

    func get<Answer: Decodable>(
        _ type: Answer.Type, _ path: String, _ query: [(name: String, value: String)] = []
    ) throws(CommandFailure) -> Answer {
        let body = try get(path, query)
        guard let answer = try? JSONDecoder().decode(type, from: Data(body)) else {
            throw CommandFailure(
                "the \(program.rawValue) at \(socket) answers \(path) in another form than this agentctl knows; use "
                    + "its version")
        }
        return answer
    }

    private func exchange(_ request: String) throws(CommandFailure) -> [UInt8] {
        let descriptor = try connected()
        defer { close(descriptor) }
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        let outcome = writeAll(Array(request.utf8), to: descriptor)
        guard outcome.code == 0 else {
            throw CommandFailure("writing to \(socket) failed: \(String(cString: strerror(outcome.code)))")
        }
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else {
                throw CommandFailure("reading from \(socket) failed: \(String(cString: strerror(errno)))")
            }
            if count == 0 { return answer }
            answer += chunk[..<count]
        }
    }

    private func connected() throws(CommandFailure) -> Int32 {
        do throws(PosixError) {
            return try UnixSocket.connect(socket)
        } catch {
            if error.code == ENAMETOOLONG { throw CommandFailure("--api-socket: \(error)") }
            let start =
                switch program {
                case .agent: "start heddle-agent or pass --api-socket"
                case .controller:
                    "run this in its pod (kubectl exec deploy/heddle-controller -- agentctl ...) or pass --api-socket"
                }
            let remedy = error.code == EACCES || error.code == EPERM ? "run agentctl as root" : start
            throw CommandFailure("\(program.rawValue) not running at \(socket): \(error.reason); \(remedy)")
        }
    }

    private func parse(_ answer: [UInt8]) -> (status: Int, body: [UInt8])? {
        let end = Array("\r\n\r\n".utf8)
        guard let at = answer.indices.first(where: { answer[$0...].starts(with: end) }) else { return nil }
        let words = String(decoding: answer[..<at], as: UTF8.self).split(separator: " ", maxSplits: 2)
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else { return nil }
        return (status, Array(answer[(at + end.count)...]))
    }
}

private func percentEncoded(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "/"), UInt8(ascii: ":"):
            result.unicodeScalars.append(Unicode.Scalar(byte))
        default:
            let hex = String(byte, radix: 16, uppercase: true)
            result += "%" + (hex.count == 1 ? "0" : "") + hex
        }
    }
    return result
}
