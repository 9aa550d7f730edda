/// CONNECT as it comes: HEADERS through the machine of a connection.
import Addressing
import Balancing
import HTTP2Wire

@testable import Proxy

private let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0]
/// Whoever wrote a head without saying who began.
private let anybody = Addressing.SocketAddress(IPAddress(v4: 0x0a00_0001), 1)

/// As they are.
func connect(frames: [UInt8]) { for head in heads(frames) { check(head) } }

/// `name: value`, one a line, in one frame.
func connect(lines: [UInt8]) {
    var list = FieldList()
    for line in lines.split(separator: UInt8(ascii: "\n")) {
        let text = String(decoding: line, as: UTF8.self)
        // A name may begin with a colon.
        guard let colon = text.dropFirst().firstIndex(of: ":") else { continue }
        list.append(String(text[..<colon]), String(text[text.index(after: colon)...].drop { $0 == " " }))
    }
    for head in heads(frame(list)) { check(head) }
}

private func frame(_ list: FieldList) -> [UInt8] {
    var (encoder, block) = (HPACKEncoder(), ByteStore())
    encoder.encode(list, to: &block)
    // END_HEADERS, on the first stream.
    let head = [UInt8(block.count >> 16 & 0xff), UInt8(block.count >> 8 & 0xff), UInt8(block.count & 0xff), 1, 4]
    return head + [0, 0, 0, 1] + block.withBytes { Array($0) }
}

private func heads(_ frames: [UInt8]) -> [ConnectHead] {
    var limits = HTTP2Limits()
    Tunnel.limit(&limits)
    var machine = HTTP2Machine(.server, limits: limits)
    var (list, heads): (FieldList, [ConnectHead]) = (FieldList(), [])
    (preface + frames).withUnsafeBytes { input in
        var at = 0
        while let event = machine.next(input, at: &at, into: &list) {
            guard case .head(_, let facts, _) = event else { continue }
            do throws(TunnelRefusal) { heads.append(try ConnectHead(list, facts)) } catch { judge(error) }
        }
    }
    return heads
}

/// What was read is harmless, and is read again when it is written.
private func check(_ head: ConnectHead) {
    precondition(head.target.port > 0, "a target without a port")
    if let service = head.service {
        precondition(1...300 ~= service.utf8.count, "a service's name without a bound")
        precondition(service.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "\"") }, "no name")
    }
    var random = FastGenerator(seed: 1)
    let list = ConnectHead.fields(
        to: head.target, client: head.client ?? anybody, service: head.service, baggage: "",
        trace: TraceContext(sampled: false, using: &random))
    let again = heads(frame(list)).first
    precondition(again?.target == head.target && again?.client == head.client ?? anybody, "another head than was read")
    precondition(again?.service == head.service, "another service than was read")
}
