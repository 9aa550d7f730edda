/// The commands. Words are separated by spaces; `key=value` words are options, a bare option word is a flag.
///
///     listen tcp|udp ADDRESS:PORT NAME [multipath]   answers NAME|CLIENT|PORT; port 0 takes a free one
///     unlisten tcp|udp ADDRESS:PORT
///     flow KIND DESTINATION [count= timeout= source= mapped claimed multipath]   one connection after the other
///     crowd DESTINATION count=               TCP connections, each from a network namespace of its own without a route
///     open ID KIND DESTINATION [...]         a socket kept open by hand
///     ask ID                                 one exchange on it: as `flow`, with the names that getpeername, recvfrom
///                                            and getsockname say
///     tell ID                                sends, and reads nothing
///     launch ID, land ID                     in between, it is in a queue and open nowhere
///     lend ID [behind=]                      to another process, which has so many other descriptors before it
///     close ID
///     hold ID DESTINATION count= interval= timeout=   TCP connections with steady traffic; `held ID`, `release ID`
///     storm ID KIND DESTINATION threads=     connections at full speed until `calm ID`
///
/// `claimed`: the source may be an address that this machine does not have (IP_FREEBIND). `multipath`: MPTCP, not TCP.
/// KIND is `tcp`, `udp` (sendto on an unconnected socket) or `udp-connected`.
import Addressing
import Glibc
import Netns

final class Driver {
    private let server: Server
    private var open: [String: OpenSocket] = [:]
    private var held: [String: HeldConnections] = [:]
    private var storms: [String: Storm] = [:]

    init() throws { server = try Server() }

    func execute(_ line: String) -> [UInt8] {
        do {
            var command = try Command(line)
            var output = try run(&command)
            output.lines.append(".")
            return Array((output.lines.joined(separator: "\n") + "\n").utf8) + output.payload
        } catch {
            return Array("error \(error)\n.\n".utf8)
        }
    }

    private struct Output {
        var lines: [String] = []
        /// Follows the final `.`; its length is known from the lines.
        var payload: [UInt8] = []
    }

    private func run(_ command: inout Command) throws -> Output {
        switch command.verb {
        case "listen":
            let transport = try command.transport()
            let address = try server.listen(
                transport, try command.address(), name: try command.word("a name"), isMultipath: command.isMultipath)
            return Output(lines: ["address \(address)"])
        case "unlisten":
            server.unlisten(try command.transport(), try command.address())
            return Output()
        case "flow":
            return Output(lines: flow(try command.target(), count: try command.number("count", default: 1)))
        case "crowd":
            let target = try command.target(kind: .tcp)
            for _ in 0..<(try command.number("count", default: 1)) {
                try NetworkNamespace.anonymous().run { _ = flow(target, count: 1) }
            }
            return Output()
        case "storm":
            let id = try command.word("an ID")
            storms[id] = Storm(try command.target(), threads: try command.number("threads", default: 1))
            return Output()
        case "calm":
            let id = try command.word("an ID")
            guard let storm = storms.removeValue(forKey: id) else { throw Failure("no storm \(id)") }
            let result = storm.stop()
            return Output(
                lines: result.names.map { "name \($0)" } + ["records \(result.count)"], payload: result.records)
        default: return Output(lines: try runOnSockets(&command))
        }
    }

    private func runOnSockets(_ command: inout Command) throws -> [String] {
        let id = try command.word("an ID")
        switch command.verb {
        case "open":
            let socket = OpenSocket(try command.target())
            open[id] = socket
            return socket.opening
        case "ask":
            guard let socket = open[id] else { throw Failure("no socket \(id)") }
            return socket.ask()
        case "tell", "launch", "land", "lend":
            guard let socket = open[id] else { throw Failure("no socket \(id)") }
            switch command.verb {
            case "tell": return socket.tell()
            case "launch": try socket.launch()
            case "land": try socket.land()
            default: try socket.lend(behind: Int32(try command.number("behind", default: 0)))
            }
            return []
        case "close":
            open[id] = nil
            return []
        case "hold":
            let count = try command.number("count", default: 1)
            let interval = try command.number("interval", default: 5)
            held[id] = try HeldConnections(try command.target(kind: .tcp), count: count, intervalMs: interval)
            return []
        case "held":
            guard let connections = held[id] else { throw Failure("no held connections \(id)") }
            return connections.report()
        case "release":
            guard let connections = held.removeValue(forKey: id) else { throw Failure("no held connections \(id)") }
            return connections.stop()
        default: throw Failure("unknown command \(command.verb)")
        }
    }
}
