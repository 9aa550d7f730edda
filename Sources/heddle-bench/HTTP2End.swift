/// One end of a connection of HTTP/2 on a blocking socket, and what calls of gRPC are made of: lists of fields, and
/// messages with their length in front.
import Glibc
import HTTP2Wire

final class HTTP2End {
    let descriptor: Int32
    private var machine: HTTP2Machine
    private(set) var fields = FieldList()
    private var input = [UInt8](repeating: 0, count: 256 << 10)

    init(_ descriptor: Int32, _ role: HTTP2Machine.Role) {
        self.descriptor = descriptor
        machine = HTTP2Machine(role)
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
    }

    /// What has come, read once; false at the end of the connection. What `take` leads to is sent together.
    func receive(_ take: (HTTP2Event, UnsafeRawBufferPointer) throws -> Void) throws -> Bool {
        let count = recv(descriptor, &input, input.count, 0)
        guard count > 0 else { return false }
        machine.now = UInt32(truncatingIfNeeded: monotonicNanoseconds() / 1_000_000_000)
        try input.withUnsafeBytes { raw in
            let bytes = UnsafeRawBufferPointer(rebasing: raw[..<count])
            var at = 0
            while let event = machine.next(bytes, at: &at, into: &fields) {
                if case .data(let stream, let range, _) = event { machine.consumed(stream, range.count) }
                try take(event, bytes)
            }
        }
        try flush()
        return true
    }

    func flush() throws {
        let output = machine.output.bytes
        machine.outputWasTaken()
        try sendAll(output, on: descriptor)
    }

    func open(_ head: FieldList) throws -> UInt32 { try machine.open(head, isLast: false) }
    func sendHead(_ stream: UInt32, _ head: FieldList) throws { try machine.sendHead(stream, head, isLast: false) }
    func sendTrailers(_ stream: UInt32, _ trailers: FieldList) throws { try machine.sendTrailers(stream, trailers) }
    func send(_ stream: UInt32, _ bytes: UnsafeRawBufferPointer, isLast: Bool = false) throws {
        // So little is under way that it always fits.
        guard try machine.sendData(stream, bytes, isLast: isLast) == bytes.count else {
            throw SocketFailure("stream \(stream) has no window", EAGAIN)
        }
    }
}

extension FieldList {
    init(_ fields: KeyValuePairs<String, String>) {
        self.init()
        for (name, value) in fields { append(name, value) }
    }
}
