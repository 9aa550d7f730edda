/// Our HPACK against swift-nio-http2's: what one encodes the other decodes, and a block that was mutated is the same
/// list of fields to both, or none.
import HTTP2Wire
import NIOCore
import NIOHPACK
import TestSupport
import Testing

@Suite struct HPACKDifferentialTests {
    private struct TextField: Equatable {
        var name: String
        var value: String
        var isNeverIndexed: Bool
    }

    private func randomFields(_ generator: inout SeededGenerator) -> [TextField] {
        let names = [
            ":method", ":path", ":status", ":authority", "accept", "accept-encoding", "cookie", "te", "x-a", "date",
            "authorization", "x-much-longer-name", "content-type", "server",
        ]
        let values = [
            "", "GET", "/", "/index.html", "200", "gzip, deflate", "é", "a", "0123456789012345678901234567890",
            "application/grpc", "Mon, 21 Oct 2013 20:13:21 GMT",
        ]
        return (0..<Int.random(in: 0..<14, using: &generator)).map { _ in
            let isNew = Int.random(in: 0..<5, using: &generator) == 0
            let value =
                isNew
                ? String(repeating: "v", count: Int.random(in: 0..<200, using: &generator))
                : values.randomElement(using: &generator) ?? ""
            return TextField(
                name: names.randomElement(using: &generator) ?? "x", value: value,
                isNeverIndexed: Int.random(in: 0..<10, using: &generator) == 0)
        }
    }

    // MARK: The four coders

    private func ours(
        _ decoder: inout HTTP2Wire.HPACKDecoder, _ block: [UInt8]
    ) -> Result<FieldList, HPACKFault> {
        var list = FieldList()
        return block.withUnsafeBytes { bytes in
            Result { () throws(HPACKFault) in _ = try decoder.decode(bytes, into: &list, limit: 1 << 24) }
        }.map { list }
    }
    private func texts(_ list: FieldList) -> [TextField] {
        list.fields.map {
            TextField(
                name: list.nameText($0), value: list.valueText($0), isNeverIndexed: $0.marks.contains(.neverIndexed))
        }
    }
    private func ours(_ encoder: inout HTTP2Wire.HPACKEncoder, _ fields: [TextField]) -> [UInt8] {
        var list = FieldList()
        for field in fields { list.append(field.name, field.value, marks: field.isNeverIndexed ? .neverIndexed : []) }
        var output = ByteStore()
        encoder.encode(list, to: &output)
        return output.bytes
    }
    private func theirs(_ decoder: inout NIOHPACK.HPACKDecoder, _ block: [UInt8]) -> [TextField]? {
        var buffer = ByteBuffer(bytes: block)
        guard let headers = try? decoder.decodeHeaders(from: &buffer) else { return nil }
        return headers.map { TextField(name: $0.name, value: $0.value, isNeverIndexed: $0.indexable == .neverIndexed) }
    }
    private func theirs(_ encoder: inout NIOHPACK.HPACKEncoder, _ fields: [TextField]) throws -> [UInt8] {
        var headers = HPACKHeaders()
        for (index, field) in fields.enumerated() {
            let indexing: HPACKIndexing = index % 5 == 4 ? .nonIndexable : .indexable
            headers.add(name: field.name, value: field.value, indexing: field.isNeverIndexed ? .neverIndexed : indexing)
        }
        var buffer = ByteBuffer()
        try encoder.encode(headers: headers, to: &buffer)
        return Array(buffer.readableBytesView)
    }
    private func newDecoder() -> NIOHPACK.HPACKDecoder {
        NIOHPACK.HPACKDecoder(allocator: ByteBufferAllocator(), maxDynamicTableSize: 4096, maxHeaderListSize: 1 << 24)
    }

    // MARK: Tests

    @Test func whatOneEncodesTheOtherDecodes() throws {
        var generator = SeededGenerator()
        for _ in 0..<30 {
            var ourEncoder = HTTP2Wire.HPACKEncoder()
            var ourDecoder = HTTP2Wire.HPACKDecoder()
            var theirEncoder = NIOHPACK.HPACKEncoder(allocator: ByteBufferAllocator())
            var theirDecoder = newDecoder()
            for _ in 0..<60 {
                if Int.random(in: 0..<15, using: &generator) == 0 {
                    let limit = [0, 64, 300, 4096].randomElement(using: &generator) ?? 0
                    ourEncoder.setPeerLimit(limit)
                    try theirEncoder.setDynamicTableSize(limit)
                }
                let fields = randomFields(&generator)
                let read = try #require(theirs(&theirDecoder, ours(&ourEncoder, fields)))
                #expect(read.map { [$0.name, $0.value] } == fields.map { [$0.name, $0.value] })
                // What was marked stays marked; we mark more than that.
                #expect(zip(read, fields).allSatisfy { $0.isNeverIndexed || !$1.isNeverIndexed })
                #expect(texts(try ours(&ourDecoder, theirs(&theirEncoder, fields)).get()) == fields)
            }
        }
    }

    /// Reasons for which the two may part, each of them meant.
    private func mayDiffer(_ block: [UInt8], ours: Result<FieldList, HPACKFault>) -> Bool {
        switch ours {
        // NIO takes nine bytes of zeros in front of an integer; five are what any 32-bit number needs.
        case .failure(.badInteger): true
        case .failure: false
        case .success(let list):
            // NIO refuses empty names as it decodes; here they make a message malformed, which is a stream's error.
            // NIO keeps names and values as text: what is not UTF-8 is other bytes afterwards, and another length.
            list.fields.contains { field in
                field.nameRange.isEmpty
                    || !isText(list, field.nameRange) || !isText(list, field.valueRange)
            }
        }
    }
    private func isText(_ list: FieldList, _ range: Range<Int>) -> Bool {
        list.store.withBytes { String(validating: $0[range], as: UTF8.self) != nil }
    }

    @Test func mutatedBlocksAreTheSameToBothOrRefusedByBoth() throws {
        var generator = SeededGenerator()
        var accepted = 0
        var refused = 0
        for _ in 0..<3000 {
            var encoder = NIOHPACK.HPACKEncoder(allocator: ByteBufferAllocator())
            var ourDecoder = HTTP2Wire.HPACKDecoder()
            var theirDecoder = newDecoder()
            for _ in 0..<6 {
                var block = try theirs(&encoder, randomFields(&generator))
                for _ in 0..<Int.random(in: 0...2, using: &generator) { mutate(&block, &generator) }
                let mine = ours(&ourDecoder, block)
                if mayDiffer(block, ours: mine) { break }
                let other = theirs(&theirDecoder, block)
                #expect((try? mine.get()).map(texts) == other, "\(block) \(mine)")
                // After a mistake there is no table any more that could be the same.
                guard other != nil else {
                    refused += 1
                    break
                }
                accepted += 1
            }
        }
        #expect(accepted > 2000 && refused > 500)
    }

    private func mutate(_ block: inout [UInt8], _ generator: inout SeededGenerator) {
        guard !block.isEmpty else { return block = [UInt8.random(in: 0...255, using: &generator)] }
        let at = Int.random(in: 0..<block.count, using: &generator)
        switch Int.random(in: 0..<5, using: &generator) {
        case 0: block.remove(at: at)
        case 1: block[at] = UInt8.random(in: 0...255, using: &generator)
        case 2: block[at] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 3:
            let special: [UInt8] = [0x00, 0x10, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0x82, 0xbe, 0xc0, 0xff]
            block.insert(special.randomElement(using: &generator) ?? 0, at: at)
        default: block.insert(block[at], at: at)
        }
    }
}
