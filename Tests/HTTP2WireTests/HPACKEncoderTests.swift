/// What the encoder writes, read by the decoder; what it keeps and what it must not.
@testable import HTTP2Wire
import Testing
import TestSupport

@Suite struct HPACKEncoderTests {
    @Test("RFC 7541, C.1: integers") func integers() {
        let written = { (value: Int, prefix: Int) in
            [UInt8](unsafeUninitializedCapacity: 8) { buffer, count in
                count = buffer.baseAddress.map { writeInteger(value, prefix, 0, to: $0) } ?? 0
            }
        }
        #expect(written(10, 5) == [10] && written(1337, 5) == hex("1f9a 0a") && written(42, 8) == [42])
        #expect(written(31, 5) == hex("1f00") && written(30, 5) == [30] && written(1 << 24, 7) == hex("7f81 ffff 07"))
    }

    @Test("RFC 7541, C.4: strings are shorter in Huffman's code") func stringsAreCoded() {
        var encoder = HPACKEncoder()
        #expect(
            encoder.block(of: [TextField(":authority", "www.example.com")]) == hex("018c f1e3 c2e5 f23a 6ba0 ab90 f4ff")
        )
        // Not longer, though: this one is 28 bits a byte.
        #expect(encoder.block(of: [TextField("a", "\u{1}")]).suffix(2) == hex("0101"))
    }

    @Test func aFieldIsKeptWhenItComesAgain() {
        var encoder = HPACKEncoder()
        let fields = [TextField("user-agent", "heddle-bench/1.0"), TextField("x-tenant", "blue")]
        let first = encoder.block(of: fields)
        #expect(encoder.tableSize == 0)
        let second = encoder.block(of: fields)
        #expect(second.count <= first.count && encoder.tableSize == 2 * 32 + 26 + 12)
        #expect(encoder.block(of: fields) == hex("bfbe"))
        // Another value of a name that the table has.
        #expect(encoder.block(of: [TextField("x-tenant", "red")]).first == 0x0f)
        // What never comes again is never kept.
        let size = encoder.tableSize
        for id in 0..<1000 {
            _ = encoder.block(of: [TextField("x-request-id", "\(id)"), TextField(":path", "/\(id)")])
        }
        #expect(encoder.tableSize == size && encoder.block(of: fields) == hex("bfbe"))
    }

    @Test(
        "RFC 7541, 6.2.3 and 7.1: secrets stay literals that nobody may index",
        arguments: [
            TextField("authorization", "Bearer abcdefghijklmnopqrstuvwxyz"),
            TextField("proxy-authorization", "Basic eDp5"),
            TextField("set-cookie", "session=0123456789abcdef0123456789abcdef"), TextField("cookie", "pin=1234"),
            TextField("x-anything", "that came as never indexed", neverIndexed: true),
            TextField(":path", "/", neverIndexed: true),
        ]) func secretsAreNeverIndexed(_ field: TextField) throws
    {
        var encoder = HPACKEncoder()
        var decoder = HPACKDecoder()
        for _ in 0..<4 {
            let block = encoder.block(of: [field])
            #expect(block[0] & 0xf0 == 0x10)
            #expect(try decoder.fields(of: block) == [TextField(field.name, field.value, neverIndexed: true)])
        }
        #expect(encoder.tableSize == 0)
    }

    @Test func longCookiesAreKept() {
        var encoder = HPACKEncoder()
        let cookie = TextField("cookie", "session=0123456789abcdef0123456789abcdef")
        for _ in 0..<2 { _ = encoder.block(of: [cookie]) }
        #expect(encoder.block(of: [cookie]) == [0xbe])
    }

    @Test("RFC 7541, 4.2: the peer's limit is told at the next block, the smallest first") func limitsAreTold() {
        var encoder = HPACKEncoder()
        let field = TextField("a", "b")
        for _ in 0..<2 { _ = encoder.block(of: [field]) }
        encoder.setPeerLimit(0)
        #expect(encoder.tableSize == 0)
        encoder.setPeerLimit(100)
        encoder.setPeerLimit(50)
        #expect(encoder.block(of: [TextField(":method", "GET")]) == hex("203f 1382"))
        #expect(encoder.block(of: [TextField(":method", "GET")]) == hex("82"))
        // Larger than the default: not made use of, nothing to tell beyond the default.
        encoder.setPeerLimit(1 << 20)
        #expect(encoder.block(of: [TextField(":method", "GET")]) == hex("3fe1 1f82"))
        encoder.setPeerLimit(1 << 30)
        #expect(encoder.block(of: [TextField(":method", "GET")]) == hex("82"))
        encoder.setPeerLimit(0)
        for _ in 0..<4 { _ = encoder.block(of: [field]) }
        #expect(encoder.tableSize == 0)
    }

    @Test func randomListsComeBackWhateverTheLimit() throws {
        var generator = SeededGenerator()
        for _ in 0..<40 {
            var encoder = HPACKEncoder()
            var decoder = HPACKDecoder()
            for _ in 0..<200 {
                if Int.random(in: 0..<20, using: &generator) == 0 {
                    let limit = [0, 40, 100, 500, 4096].randomElement(using: &generator) ?? 0
                    encoder.setPeerLimit(limit)
                    decoder.allow(tableSize: limit)
                }
                let fields = (0..<Int.random(in: 0..<12, using: &generator)).map { _ in randomField(&generator) }
                let block = encoder.block(of: fields)
                let read = try #require(try decoder.fields(of: block))
                #expect(read.map { [$0.name, $0.value] } == fields.map { [$0.name, $0.value] })
                #expect(encoder.tableSize == decoder.tableSize)
            }
        }
    }
}

/// Names and values that repeat, and some that do not.
func randomField(_ generator: inout SeededGenerator) -> TextField {
    let names = [
        ":method", ":path", ":status", "accept", "accept-encoding", "cookie", "te", "x-a", "x-much-longer-name", "date",
    ]
    let values = ["", "GET", "/", "200", "gzip, deflate", "é", "a", "0123456789012345678901234567890", "\u{1}\u{2}"]
    let name = names.randomElement(using: &generator) ?? ""
    let value =
        Int.random(in: 0..<4, using: &generator) == 0
        ? String(UInt32.random(in: 0...UInt32.max, using: &generator)) : values.randomElement(using: &generator) ?? ""
    return TextField(name, value, neverIndexed: Int.random(in: 0..<16, using: &generator) == 0)
}
