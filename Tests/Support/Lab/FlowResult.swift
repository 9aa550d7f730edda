/// What connections from a pod came to.
package import Addressing
import Glibc

package struct FlowResult: CustomStringConvertible {
    /// Answers by the name of the server.
    package private(set) var hits: [String: Int] = [:]
    /// Answers by the client address the server saw.
    package private(set) var clients: [IPAddress: Int] = [:]
    /// Answers by the peer that getpeername (connected sockets) or recvfrom names.
    package private(set) var peers: [SocketAddress: Int] = [:]
    /// The socket's own address, of a socket that is kept.
    package private(set) var own: SocketAddress?
    /// Failures by errno; ETIMEDOUT stands for silence.
    package private(set) var errors: [Int32: Int] = [:]

    init(_ lines: [String]) {
        for line in lines {
            let words = line.split(separator: " ")
            guard words.count == 3, let count = Int(words[2]) else { continue }
            switch words[0] {
            case "hit": hits[String(words[1])] = count
            case "client": if let address = IPAddress(words[1]) { clients[address] = count }
            case "peer": if let address = SocketAddress(words[1]) { peers[address, default: 0] += count }
            case "own": own = SocketAddress(words[1])
            case "errno": if let code = Int32(words[1]) { errors[code] = count }
            default: break
            }
        }
    }

    package var answered: Int { hits.values.reduce(0, +) }
    package var failed: Int { errors.values.reduce(0, +) }
    /// Who answered.
    package var names: Set<String> { Set(hits.keys) }

    package var description: String {
        let failures = errors.map { "\(String(cString: strerror($0.key))): \($0.value)" }
        return "hits \(hits), clients \(clients), peers \(peers), errors \(failures)"
    }
}

/// A socket that stays open in a pod.
package struct OpenSocket {
    private let pod: Pod
    private let id: String
    package let opening: FlowResult

    init(pod: Pod, id: String, opening: FlowResult) {
        self.pod = pod
        self.id = id
        self.opening = opening
    }
    /// One more exchange on the same socket. `peers` are what both getpeername and recvfrom say.
    package func ask() throws(TestFailure) -> FlowResult { FlowResult(try pod.send("ask \(id)")) }
    /// Sends and reads nothing: the answer is found by the next who reads.
    package func tell() throws(TestFailure) -> FlowResult { FlowResult(try pod.send("tell \(id)")) }
    /// Until `land`, the socket is in the queue of a Unix socket and no process has it open.
    package func launch() throws(TestFailure) { _ = try pod.send("launch \(id)") }
    package func land() throws(TestFailure) { _ = try pod.send("land \(id)") }
    /// Another process has it open, too, and so many other descriptors before it.
    package func lend(behind others: Int = 0) throws(TestFailure) { _ = try pod.send("lend \(id) behind=\(others)") }
    package func close() throws(TestFailure) { _ = try pod.send("close \(id)") }
}

/// TCP connections with steady traffic on them.
package struct HeldConnections {
    package struct Report: Sendable {
        package private(set) var alive = 0
        /// Questions answered so far, over all connections.
        package private(set) var exchanges = 0
        /// Connections by the server that took them.
        package private(set) var hits: [String: Int] = [:]
        /// Connections that broke, by errno.
        package private(set) var errors: [Int32: Int] = [:]

        init(_ lines: [String]) {
            for line in lines {
                let words = line.split(separator: " ")
                guard let number = words.last.flatMap({ Int($0) }) else { continue }
                switch words[0] {
                case "alive": alive = number
                case "exchanges": exchanges = number
                case "hit": hits[String(words[1])] = number
                case "errno": if let code = Int32(words[1]) { errors[code] = number }
                default: break
                }
            }
        }
    }
    private let pod: Pod
    private let id: String

    init(pod: Pod, id: String) {
        self.pod = pod
        self.id = id
    }
    package func report() throws(TestFailure) -> Report { Report(try pod.send("held \(id)")) }
    /// Closes them all.
    package func release() throws(TestFailure) -> Report { Report(try pod.send("release \(id)")) }
}

/// Connections being made at full speed.
package struct Storm {
    package struct Connection: Sendable {
        /// CLOCK_MONOTONIC in nanoseconds, as `monotonicNs()` gives it.
        package let start: UInt64
        package let end: UInt64
        /// Who answered; nil when nobody did.
        package let name: String?
        /// errno; 0 when somebody answered.
        package let error: Int32
    }
    private let pod: Pod
    private let id: String

    init(pod: Pod, id: String) {
        self.pod = pod
        self.id = id
    }

    /// Ends the storm and returns every connection, in no order.
    package func stop() throws(TestFailure) -> [Connection] {
        let lines = try pod.send("calm \(id)").map { $0.split(separator: " ") }
        let names = lines.filter { $0[0] == "name" }.map { String($0[1]) }
        guard let count = lines.first(where: { $0[0] == "records" }).flatMap({ Int($0[1]) }) else {
            throw TestFailure("pod-driver sent no records")
        }
        let recordSize = 24
        let bytes = try pod.payload(count * recordSize)
        return bytes.withUnsafeBytes { raw in
            (0..<count).map { index in
                let at = index * recordSize
                let error = raw.loadUnaligned(fromByteOffset: at + 20, as: Int32.self)
                let name = Int(raw.loadUnaligned(fromByteOffset: at + 16, as: UInt32.self))
                return Connection(
                    start: raw.loadUnaligned(fromByteOffset: at, as: UInt64.self),
                    end: raw.loadUnaligned(fromByteOffset: at + 8, as: UInt64.self),
                    name: error == 0 ? names[name] : nil, error: error)
            }
        }
    }
}

/// CLOCK_MONOTONIC, which all processes of the machine share.
package func monotonicNs() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
