/// HPACK: heads of a site's requests and answers, some of whose fields repeat and some never do.
import HTTP2Wire
import NIOCore
import NIOHPACK

typealias Head = [(String, String)]

/// Requests and answers by turns.
func sampleHeads(_ count: Int) -> [Head] {
    (0..<count).map { number in
        let id = "6f1d7c2a-94b3-4e58-8a01-\(100_000_000_000 + number * 7919)"
        guard number % 2 == 0 else {
            return [
                (":status", number % 20 == 1 ? "304" : "200"), ("content-type", "application/json; charset=utf-8"),
                ("content-length", "\(200 + number * 37 % 9000)"), ("x-request-id", id),
                ("date", "Fri, 27 Nov 2026 05:\(number / 60 % 60):07 GMT"), ("server", "shop"),
                ("cache-control", "private, max-age=0"), ("vary", "accept-encoding"),
            ]
        }
        return [
            (":method", "GET"), (":scheme", "http"), (":authority", "web.shop.svc.cluster.local"),
            (":path", "/items/\(number * 31 % 400)?page=\(number % 7)"),
            ("accept", "application/json, text/plain, */*"),
            ("accept-encoding", "gzip, deflate, br"), ("accept-language", "en-GB,en;q=0.9"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
            ("x-request-id", id), ("x-forwarded-for", "10.1.\(number % 30).\(number % 250)"),
            ("x-forwarded-proto", "http"),
        ]
    }
}

struct BenchFailure: Error {
    let description: String
}

struct CodecBench {
    private let ourLists: [FieldList]
    private let theirLists: [HPACKHeaders]
    /// Both decode what swift-nio-http2 has encoded.
    private let blocks: [[UInt8]]
    private let buffers: [ByteBuffer]

    init(_ heads: [Head]) throws {
        ourLists = heads.map { head in
            var list = FieldList()
            for (name, value) in head { list.append(name, value) }
            return list
        }
        theirLists = heads.map { HPACKHeaders($0) }
        var encoder = NIOHPACK.HPACKEncoder(allocator: ByteBufferAllocator())
        buffers = try theirLists.map { headers in
            var buffer = ByteBuffer()
            try encoder.encode(headers: headers, to: &buffer)
            return buffer
        }
        blocks = buffers.map { Array($0.readableBytesView) }
    }

    func encodeOurs() throws {
        var encoder = HTTP2Wire.HPACKEncoder()
        var output = ByteStore()
        for list in ourLists {
            output.removeAll()
            encoder.encode(list, to: &output)
        }
    }
    func encodeTheirs() throws {
        var encoder = NIOHPACK.HPACKEncoder(allocator: ByteBufferAllocator())
        var output = ByteBuffer()
        for headers in theirLists {
            output.clear()
            try encoder.encode(headers: headers, to: &output)
        }
    }

    func decodeOurs() throws {
        var decoder = HTTP2Wire.HPACKDecoder()
        var list = FieldList()
        for (index, block) in blocks.enumerated() {
            list.removeAll()
            let isWithin = try block.withUnsafeBytes { bytes in
                Result { () throws(HPACKFault) in try decoder.decode(bytes, into: &list, limit: 1 << 16) }
            }.get()
            guard isWithin, list.fields.count == ourLists[index].fields.count else {
                throw BenchFailure(description: "head \(index) was decoded to another one")
            }
        }
    }
    func decodeTheirs() throws {
        var decoder = NIOHPACK.HPACKDecoder(allocator: ByteBufferAllocator())
        for (index, buffer) in buffers.enumerated() {
            var buffer = buffer
            guard try decoder.decodeHeaders(from: &buffer).count == theirLists[index].count else {
                throw BenchFailure(description: "head \(index) was decoded to another one")
            }
        }
    }
}
