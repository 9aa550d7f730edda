/// PEM as others write it: lines of any length, text around the blocks. No more is read than what is known to be short.
import FoundationEssentials
import SwiftASN1

struct PEMText {
    struct Block {
        let label: String
        let der: [UInt8]
    }

    private(set) var blocks: [Block] = []
    /// `openssl x509 -text` writes some.
    private(set) var hasTextAround = false

    init(_ text: String, maximumBytes: Int) throws(SigningError) {
        let count = text.utf8.count
        guard count <= maximumBytes else { throw SigningError("it has \(count) bytes, more than \(maximumBytes)") }
        var open: (label: Substring.UTF8View, base64: [UInt8])?
        for line in text.utf8.split(whereSeparator: { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") }) {
            let line = trimmed(line)
            if let label = label(of: line, "-----BEGIN ") {
                guard open == nil else { throw SigningError("a PEM block begins within another") }
                open = (label, [])
            } else if let label = label(of: line, "-----END ") {
                guard let block = open, block.label.elementsEqual(label) else {
                    throw SigningError("a PEM block ends that did not begin")
                }
                guard let der = Data(base64Encoded: Data(block.base64)), !der.isEmpty else {
                    throw SigningError("a PEM block is not in base64, or is encrypted")
                }
                blocks.append(Block(label: String(Substring(label)), der: Array(der)))
                open = nil
            } else if open != nil {
                open?.base64.append(contentsOf: line)
            } else if !line.isEmpty {
                hasTextAround = true
            }
        }
        guard open == nil else { throw SigningError("a PEM block does not end") }
    }
}

func pem(_ value: some PEMSerializable) throws -> String { try value.serializeAsPEM().pemString + "\n" }

/// `LABEL` of `-----BEGIN LABEL-----`.
private func label(of line: Substring.UTF8View, _ begin: String) -> Substring.UTF8View? {
    let end = "-----"
    guard line.starts(with: begin.utf8), line.count >= begin.utf8.count + end.utf8.count,
        line.suffix(end.utf8.count).elementsEqual(end.utf8)
    else { return nil }
    return line.dropFirst(begin.utf8.count).dropLast(end.utf8.count)
}

private func trimmed(_ line: Substring.UTF8View) -> Substring.UTF8View {
    let isBlank = { (byte: UInt8) in byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
    var line = line.drop(while: isBlank)
    while let last = line.last, isBlank(last) { line.removeLast() }
    return line
}
