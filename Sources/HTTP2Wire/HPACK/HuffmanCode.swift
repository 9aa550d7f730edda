/// The code of RFC 7541, Appendix B. It is canonical: codes of one length are consecutive numbers in the order of their
/// symbols, and so the lengths say all.

/// Lengths in bits of the codes of the 256 bytes and of EOS.
private let codeLengths: [UInt8] = {
    // Runs of (how many symbols, length), in the order of the symbols.
    let runs: [(Int, UInt8)] = [
        (1, 13), (1, 23), (7, 28), (1, 24), (1, 30), (2, 28), (1, 30), (8, 28), (1, 30), (9, 28), (1, 6), (2, 10),
        (1, 12), (1, 13), (1, 6), (1, 8), (1, 11), (2, 10), (1, 8), (1, 11), (1, 8), (3, 6), (3, 5), (7, 6), (1, 7),
        (1, 8), (1, 15), (1, 6), (1, 12), (1, 10), (1, 13), (1, 6), (22, 7), (1, 8), (1, 7), (1, 8), (1, 13), (1, 19),
        (1, 13), (1, 14), (1, 6), (1, 15), (1, 5), (1, 6), (1, 5), (1, 6), (1, 5), (3, 6), (1, 5), (2, 7), (3, 6),
        (1, 5), (1, 6), (1, 7), (1, 6), (2, 5), (1, 6), (5, 7), (1, 15), (1, 11), (1, 14), (1, 13), (1, 28), (1, 20),
        (1, 22), (2, 20), (3, 22), (1, 23), (1, 22), (5, 23), (1, 24), (1, 23), (2, 24), (1, 22), (1, 23), (1, 24),
        (4, 23), (1, 21), (1, 22), (1, 23), (1, 22), (2, 23), (1, 24), (1, 22), (1, 21), (1, 20), (2, 22), (2, 23),
        (1, 21), (1, 23), (2, 22), (1, 24), (1, 21), (1, 22), (2, 23), (2, 21), (1, 22), (1, 21), (1, 23), (1, 22),
        (2, 23), (1, 20), (3, 22), (1, 23), (2, 22), (1, 23), (2, 26), (1, 20), (1, 19), (1, 22), (1, 23), (1, 22),
        (1, 25), (3, 26), (2, 27), (1, 26), (1, 24), (1, 25), (1, 19), (1, 21), (1, 26), (2, 27), (1, 26), (1, 27),
        (1, 24), (2, 21), (2, 26), (1, 28), (3, 27), (1, 20), (1, 24), (1, 20), (1, 21), (1, 22), (2, 21), (1, 23),
        (2, 22), (2, 25), (2, 24), (1, 26), (1, 23), (1, 26), (1, 27), (2, 26), (5, 27), (1, 28), (5, 27), (1, 26),
        (1, 30),
    ]
    return runs.flatMap { repeatElement($0.1, count: $0.0) }
}()

final class HuffmanCode: Sendable {
    /// EOS is no byte: who sends its code is in error (RFC 7541, 5.2).
    static let endOfString = 256
    /// Codes of up to so many bits are found by one look into a table.
    static let fastBits = 10

    /// For each byte: the code, and in the lowest eight bits its length.
    let codes: [UInt64]
    /// For each window of `fastBits` bits: length and symbol of the code it begins with; 0: the code is longer.
    let fast: [UInt16]
    /// For each length: the first code after those of this length or shorter, at the top of 32 bits.
    let limits: [UInt64]
    /// For each length: its first code's number less the code itself.
    let offsets: [Int]
    /// The symbols in the order of their codes.
    let symbols: [UInt16]

    static let shared = HuffmanCode()

    private init() {
        let order = codeLengths.indices.sorted { (codeLengths[$0], $0) < (codeLengths[$1], $1) }
        var codes = [UInt64](repeating: 0, count: order.count)
        var fast = [UInt16](repeating: 0, count: 1 << Self.fastBits)
        var limits = [UInt64](repeating: 0, count: 31)
        var offsets = [Int](repeating: 0, count: 31)
        var code: UInt64 = 0
        var at = 0
        for length in 1...30 {
            code <<= 1
            offsets[length] = at - Int(code)
            while at < order.count, Int(codeLengths[order[at]]) == length {
                codes[order[at]] = code << 8 | UInt64(length)
                if length <= Self.fastBits {
                    let first = Int(code) << (Self.fastBits - length)
                    for window in first..<first + 1 << (Self.fastBits - length) {
                        fast[window] = UInt16(length << 8 | order[at])
                    }
                }
                code += 1
                at += 1
            }
            limits[length] = code << UInt64(32 - length)
        }
        self.codes = Array(codes[..<256])
        self.fast = fast
        self.limits = limits
        self.offsets = offsets
        symbols = order.map(UInt16.init)
    }
}
