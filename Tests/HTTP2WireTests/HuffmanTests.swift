/// Huffman's code both ways: every byte, every length, every padding.
@testable import HTTP2Wire
import Testing
import TestSupport

@Suite struct HuffmanTests {
    private func encoded(_ bytes: [UInt8]) -> [UInt8] {
        bytes.withUnsafeBytes { raw in
            var output = [UInt8](repeating: 0, count: Huffman.encodedCount(raw) + 8)
            output.withUnsafeMutableBufferPointer { buffer in
                if let base = buffer.baseAddress { Huffman.encode(raw, to: base) }
            }
            return Array(output[..<Huffman.encodedCount(raw)])
        }
    }
    private func decoded(_ bytes: [UInt8]) -> [UInt8]? {
        bytes.withUnsafeBytes { raw in
            var output = [UInt8](repeating: 0, count: Huffman.decodedLimit(bytes.count) + 1)
            let count = output.withUnsafeMutableBufferPointer { buffer in
                buffer.baseAddress.flatMap { Huffman.decode(raw, to: $0) }
            }
            return count.map { Array(output[..<$0]) }
        }
    }

    @Test("RFC 7541, B: the code is complete, and some of its codes") func codesOfAppendixB() {
        // Kraft's sum is one: every sequence of bits means something.
        let lengths = HuffmanCode.shared.codes.map { $0 & 0xff } + [30]
        #expect(lengths.reduce(0) { $0 + 1 << (30 - $1) } == 1 << 30)
        let code = { (byte: UInt8) in HuffmanCode.shared.codes[Int(byte)] >> 8 }
        #expect(code(0x30) == 0 && code(0x61) == 3 && code(0x20) == 0x14 && code(0x3a) == 0x5c && code(0x26) == 0xf8)
        #expect(code(0) == 0x1ff8 && code(0x5c) == 0x7fff0 && code(255) == 0x3ffffee && code(22) == 0x3ffffffe)
    }

    @Test func everyPairOfBytesComesBack() {
        for first in UInt8.min...255 {
            #expect(decoded(encoded([first])) == [first])
            for second in UInt8.min...255 where decoded(encoded([first, second])) != [first, second] {
                Issue.record("\(first) \(second)")
            }
        }
    }

    @Test func randomTextsComeBack() {
        var generator = SeededGenerator()
        for _ in 0..<5000 {
            let isText = Bool.random(using: &generator)
            let bytes = (0..<Int.random(in: 0..<80, using: &generator)).map { _ in
                UInt8.random(in: isText ? 0x20...0x7e : 0...255, using: &generator)
            }
            #expect(decoded(encoded(bytes)) == bytes)
        }
    }

    /// Bit by bit, as the RFC says it.
    private func slowlyDecoded(_ bytes: [UInt8]) -> [UInt8]? {
        var symbols: [UInt64: UInt8] = [:]
        for (symbol, code) in HuffmanCode.shared.codes.enumerated() { symbols[code] = UInt8(symbol) }
        var result: [UInt8] = []
        var (code, length) = (UInt64(0), UInt64(0))
        for byte in bytes {
            for bit in stride(from: 7, through: 0, by: -1) {
                code = code << 1 | UInt64(byte >> UInt8(bit) & 1)
                length += 1
                if let symbol = symbols[code << 8 | length] {
                    result.append(symbol)
                    (code, length) = (0, 0)
                }
                if length == 30 { return nil }
            }
        }
        return length < 8 && code == 1 << length - 1 ? result : nil
    }

    @Test("RFC 7541, 5.2: any bits are read, or refused, as if bit by bit") func anyBitsAreReadAsBitByBit() {
        var generator = SeededGenerator()
        var accepted = 0
        for _ in 0..<20_000 {
            let isHigh = Bool.random(using: &generator)
            let bytes = (0..<Int.random(in: 0..<24, using: &generator)).map { _ in
                UInt8.random(in: isHigh ? 0xf0...255 : 0...255, using: &generator)
            }
            let result = decoded(bytes)
            #expect(result == slowlyDecoded(bytes), "\(bytes)")
            if result != nil { accepted += 1 }
        }
        #expect(accepted > 500)
    }
}
