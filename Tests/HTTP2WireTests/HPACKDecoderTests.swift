/// The decoder against the examples of RFC 7541, Appendix C, and against what must be refused.
import HTTP2Wire
import Testing

@Suite struct HPACKDecoderTests {
    struct Block {
        var bytes: String
        var fields: [TextField]
        /// Of the dynamic table afterwards.
        var size: Int
    }

    private func check(_ blocks: [Block], tableSize: Int = 4096) throws {
        var decoder = HPACKDecoder(tableSize: tableSize)
        for block in blocks {
            #expect(try decoder.fields(of: hex(block.bytes)) == block.fields)
            #expect(decoder.tableSize == block.size)
        }
    }

    @Test("RFC 7541, C.2: one field in each form") func formsOfAField() throws {
        try check([
            Block(
                bytes: "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                fields: [TextField("custom-key", "custom-header")], size: 55)
        ])
        try check([
            Block(bytes: "040c 2f73 616d 706c 652f 7061 7468", fields: [TextField(":path", "/sample/path")], size: 0)
        ])
        try check([
            Block(
                bytes: "1008 7061 7373 776f 7264 0673 6563 7265 74",
                fields: [TextField("password", "secret", neverIndexed: true)], size: 0)
        ])
        try check([Block(bytes: "82", fields: [TextField(":method", "GET")], size: 0)])
    }

    private let requests: [[TextField]] = {
        let first = [
            TextField(":method", "GET"), TextField(":scheme", "http"), TextField(":path", "/"),
            TextField(":authority", "www.example.com"),
        ]
        return [
            first, first + [TextField("cache-control", "no-cache")],
            [
                TextField(":method", "GET"), TextField(":scheme", "https"), TextField(":path", "/index.html"),
                TextField(":authority", "www.example.com"), TextField("custom-key", "custom-value"),
            ],
        ]
    }()

    @Test(
        "RFC 7541, C.3 and C.4: three requests on a connection",
        arguments: [
            [
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
            [
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
        ]) func requestsOfAppendixC(_ blocks: [String]) throws
    {
        try check([
            Block(bytes: blocks[0], fields: requests[0], size: 57),
            Block(bytes: blocks[1], fields: requests[1], size: 110),
            Block(bytes: blocks[2], fields: requests[2], size: 164),
        ])
    }

    @Test(
        "RFC 7541, C.5 and C.6: three responses, a table of 256 bytes",
        arguments: [
            [
                """
                4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
                3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d
                """, "4803 3330 37c1 c0bf",
                """
                88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
                7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
                6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31
                """,
            ],
            [
                """
                4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
                1718 63c7 8f0b 97c8 e9ae 82ae 43d3
                """, "4883 640e ffc1 c0bf",
                """
                88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
                e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07
                """,
            ],
        ]) func responsesOfAppendixC(_ blocks: [String]) throws
    {
        let date = TextField("date", "Mon, 21 Oct 2013 20:13:21 GMT")
        let rest = [TextField("cache-control", "private"), date, TextField("location", "https://www.example.com")]
        let last = [
            TextField(":status", "200"), rest[0], TextField("date", "Mon, 21 Oct 2013 20:13:22 GMT"), rest[2],
            TextField("content-encoding", "gzip"),
            TextField("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
        ]
        try check(
            [
                Block(bytes: blocks[0], fields: [TextField(":status", "302")] + rest, size: 222),
                Block(bytes: blocks[1], fields: [TextField(":status", "307")] + rest, size: 222),
                Block(bytes: blocks[2], fields: last, size: 215),
            ], tableSize: 256)
    }

    @Test(
        arguments: [
            ("ff", .truncated), ("41", .truncated), ("4103 61", .truncated), ("40", .truncated),
            ("4001 61", .truncated),
            ("4083 ff", .truncated),
            // 5.1: more than any index or length can be, in value and in length.
            ("ffff ffff ff0f", .badInteger), ("ff80 8080 8080 00", .badInteger),
            ("7fff ffff ffff ffff ffff 01", .badInteger),
            // 2.3.3: zero, and beyond both tables.
            ("80", .badIndex), ("be", .badIndex), ("7f00", .badIndex), ("0f2f 00", .badIndex), ("1f2f 00", .badIndex),
            // 5.2: EOS; padding of eight bits, of zeros, and in the middle of a code.
            ("4084 ffff fffc 00", .badHuffmanCode), ("4081 ff00", .badHuffmanCode), ("4082 07ff 00", .badHuffmanCode),
            ("4081 0600", .badHuffmanCode), ("4081 fe00", .badHuffmanCode),
            // 4.2: beyond the limit, behind a field, and three in one block.
            ("3fe2 1f", .badSizeUpdate), ("8220", .badSizeUpdate), ("2020 20", .badSizeUpdate),
        ] as [(String, HPACKFault)]) func mistakesAreRefused(_ block: String, _ fault: HPACKFault)
    {
        var decoder = HPACKDecoder()
        #expect(throws: fault) { try decoder.fields(of: hex(block)) }
    }

    @Test("RFC 7541, 5.1: zeros in front of an integer are no mistake") func paddedIntegersAreRead() throws {
        var decoder = HPACKDecoder()
        #expect(
            try decoder.fields(of: hex("047f 8000") + Array(repeating: 0x61, count: 127))?.first?.value.count == 127)
    }

    @Test("RFC 7541, 4.2 and 4.3: a size update evicts, and what was evicted has no index")
    func updatesEvict() throws {
        var decoder = HPACKDecoder()
        _ = try decoder.fields(of: hex("4001 6101 62 4001 6301 64"))
        #expect(decoder.tableSize == 68)
        #expect(try decoder.fields(of: hex("3f03 be")) == [TextField("c", "d")])
        #expect(decoder.tableSize == 34)
        #expect(throws: HPACKFault.badIndex) { try decoder.fields(of: hex("bf")) }
        #expect(try decoder.fields(of: hex("203f e11f")) == [])
        #expect(decoder.tableSize == 0)
    }

    @Test("RFC 7541, 4.4: a field larger than the table empties it") func largeFieldsEmptyTheTable() throws {
        var decoder = HPACKDecoder(tableSize: 64)
        _ = try decoder.fields(of: hex("4001 6101 62"))
        let long = [0x40, 1, 0x78, 40] + Array(repeating: UInt8(0x79), count: 40)
        #expect(try decoder.fields(of: long)?.count == 1)
        #expect(decoder.tableSize == 0)
    }

    @Test("RFC 7541, 4.2: who was told of a smaller table must say so first")
    func smallerTablesAreAcknowledged() throws {
        var decoder = HPACKDecoder()
        decoder.allow(tableSize: 100)
        #expect(throws: HPACKFault.missingSizeUpdate) { try decoder.fields(of: hex("82")) }
        decoder = HPACKDecoder()
        decoder.allow(tableSize: 100)
        #expect(throws: HPACKFault.badSizeUpdate) { try decoder.fields(of: hex("3fe1 1f 82")) }
        decoder = HPACKDecoder()
        decoder.allow(tableSize: 100)
        #expect(try decoder.fields(of: hex("3f45 82"))?.count == 1)
        // Larger ones need not be used.
        decoder.allow(tableSize: 8192)
        #expect(try decoder.fields(of: hex("82"))?.count == 1)
    }

    @Test("RFC 9113, 10.5.1: a list that is too long leaves the table in order") func longListsKeepTheTable() throws {
        var decoder = HPACKDecoder()
        let block = hex("4001 6101 62 4001 6301 64 82")
        #expect(try decoder.fields(of: block, limit: 40) == nil)
        #expect(try decoder.fields(of: hex("bebf")) == [TextField("c", "d"), TextField("a", "b")])
        // An index costs a byte and may mean four thousand: what is decoded has a limit, whatever comes.
        var list = FieldList()
        let long = Array(repeating: UInt8(0xbe), count: 4000 / 34)
        let isWithin = try long.withUnsafeBytes { bytes in try decoder.decode(bytes, into: &list, limit: 1000) }
        #expect(!isWithin && list.size <= 1000)
        // Nor is all of it read, which costs more than it says.
        let bomb = Array(repeating: UInt8(0xbe), count: 4000 / 34 + 1)
        #expect(throws: HPACKFault.tooLarge) { try decoder.fields(of: bomb, limit: 1000) }
    }

    @Test func largeTablesWrapAroundOften() throws {
        var decoder = HPACKDecoder(tableSize: 1000)
        for round in 0..<5000 {
            let value = Array("\(round)".utf8) + Array(repeating: 0x78, count: round % 97)
            let block = [0x40, 1, 0x61, UInt8(value.count)] + value + [0xbe, 0xbe]
            let fields = try #require(try decoder.fields(of: block))
            #expect(fields.count == 3 && Set(fields.map(\.value)).count == 1)
            #expect(Array(fields[2].value.utf8) == value && decoder.tableSize <= 1000)
        }
    }
}
