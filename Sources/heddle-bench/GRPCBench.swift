/// Calls of gRPC without a framework, whose own cost would hide a proxy's: a service that gives each message back at
/// once, byte for byte, and ends a call well when its client has; and a client of streams of messages.
import Addressing
import Glibc
import HTTP2Wire

/// Serves for ever, on one thread.
func serveGRPC(at addresses: [SocketAddress]) throws -> Never {
    let head = FieldList([":status": "200", "content-type": "application/grpc"])
    let (good, bad) = (FieldList(["grpc-status": "0"]), FieldList(["grpc-status": "3"]))
    let listeners = try addresses.map { try listen(at: $0) }
    var polled = listeners.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    var ends: [Int32: HTTP2End] = [:]

    func answer(_ end: HTTP2End, _ event: HTTP2Event, _ bytes: UnsafeRawBufferPointer) throws {
        switch event {
        case .head(let stream, _, let isLast):
            try end.sendHead(stream, head)
            // As services do that ask for what the protocol asks for.
            if isLast || end.fields.first(.te) == nil { try end.sendTrailers(stream, bad) }
        case .data(let stream, let range, let isLast):
            if !range.isEmpty { try end.send(stream, UnsafeRawBufferPointer(rebasing: bytes[range])) }
            if isLast { try end.sendTrailers(stream, good) }
        case .trailers(let stream): try end.sendTrailers(stream, good)
        case .violated(let fault): throw SocketFailure("\(fault)", EPROTO)
        default: break
        }
    }
    while true {
        guard poll(&polled, nfds_t(polled.count), -1) > 0 else { continue }
        // From the end: what is closed or accepted meanwhile moves only what was looked at already.
        for index in polled.indices.reversed() where polled[index].revents != 0 {
            let descriptor = polled[index].fd
            guard let end = ends[descriptor] else {
                let client = accept(descriptor, nil, nil)
                guard client >= 0 else { continue }
                ends[client] = HTTP2End(client, .server)
                polled.append(pollfd(fd: client, events: Int16(POLLIN), revents: 0))
                continue
            }
            // A client that has gone is no reason to end.
            let goesOn = try? end.receive { try answer(end, $0, $1) }
            if goesOn != true {
                close(descriptor)
                ends[descriptor] = nil
                polled.remove(at: index)
            }
        }
    }
}

/// A gRPC message in its frame of five bytes: not compressed, and how long it is.
func grpcMessage(_ size: Int) -> [UInt8] {
    [0] + (0..<4).map { UInt8(truncatingIfNeeded: size >> (24 - 8 * $0)) } + [UInt8](repeating: 0x78, count: size)
}

/// Calls side by side on one connection, with some messages under way on each: whenever one comes back, the next goes
/// out, each in a DATA frame of its own.
func benchGRPCStreams(
    _ target: SocketAddress, streams: Int, underWay: Int, size: Int, messages: Int
) throws {
    let connection = try Connection(to: target)
    let end = HTTP2End(connection.descriptor, .client)
    let head = FieldList([
        ":method": "POST", ":scheme": "http", ":path": "/shop.Web/Chat", ":authority": "web.shop", "te": "trailers",
        "content-type": "application/grpc", "user-agent": "heddle-bench",
    ])
    let message = grpcMessage(size)
    /// What is still to be sent, and how many bytes have come back that make up no whole message yet.
    var left: [UInt32: (messages: Int, bytes: Int)] = [:]
    var (answered, ended) = (0, 0)

    func sendNext(_ stream: UInt32) throws {
        guard let rest = left[stream], rest.messages > 0 else { return }
        left[stream]?.messages -= 1
        try message.withUnsafeBytes { try end.send(stream, $0, isLast: rest.messages == 1) }
    }
    for _ in 0..<streams {
        let stream = try end.open(head)
        left[stream] = (messages / streams, 0)
        for _ in 0..<underWay { try sendNext(stream) }
    }
    try end.flush()
    while ended < streams {
        let goesOn = try end.receive { event, bytes in
            switch event {
            case .data(let stream, let range, _):
                var count = (left[stream]?.bytes ?? 0) + range.count
                while count >= message.count {
                    count -= message.count
                    answered += 1
                    try sendNext(stream)
                }
                left[stream]?.bytes = count
            case .trailers:
                let status = end.fields.fields.first { end.fields.nameText($0) == "grpc-status" }
                guard status.map(end.fields.valueText) == "0" else { throw SocketFailure("a call failed", EPROTO) }
                ended += 1
            case .reset, .failed, .violated, .goAway: throw SocketFailure("\(event)", EPROTO)
            default: break
            }
        }
        guard goesOn else { throw SocketFailure("the connection ended", EPIPE) }
    }
    guard answered == messages / streams * streams else { throw SocketFailure("\(answered) messages came", EPROTO) }
    printResult([("messages", answered)])
}
