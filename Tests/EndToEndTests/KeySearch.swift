/// Looks for private keys where none may be, in files and in the memory of processes, in whatever form they are.
import FoundationEssentials
import Glibc
import TestSupport

struct PrivateKey: Hashable {
    /// The secret number of a key for P-256. Whoever has it has the key.
    let scalar: [UInt8]

    /// Those of a text in DER: as a number of 32 bytes in the frame that SEC 1 and PKCS#8 put around it.
    static func all(in bytes: UnsafeRawBufferPointer) -> Set<PrivateKey> {
        let (frame, behind) = ([0x02, 0x01, 0x01, 0x04, 0x20] as [UInt8], [0xa1, 0x44, 0x03, 0x42, 0x00] as [UInt8])
        var keys: Set<PrivateKey> = []
        var at = 0
        while let start = offset(of: frame, in: bytes, from: at) {
            at = start + frame.count
            let end = at + 32
            guard end + behind.count <= bytes.count, bytes[end..<end + behind.count].elementsEqual(behind) else {
                continue
            }
            keys.insert(PrivateKey(scalar: Array(bytes[at..<end])))
        }
        return keys
    }
    /// Those that a process holds.
    static func all(in pid: pid_t) throws -> Set<PrivateKey> {
        var keys: Set<PrivateKey> = []
        try forEachRegion(of: pid) { keys.formUnion(all(in: $0)) }
        return keys
    }

    /// The number in hexadecimal digits, in base64 wherever it begins in a longer text, as Swift prints bytes, and
    /// itself in both orders of its bytes.
    var forms: [String: [UInt8]] {
        let digits = scalar.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        var forms = [
            "bytes": scalar, "bytes in reverse": scalar.reversed(), "digits": Array(digits.utf8),
            "capital digits": Array(digits.uppercased().utf8),
            "a list": Array(scalar.map { "\($0)" }.joined(separator: ",").utf8),
        ]
        for before in 0..<3 {
            let text = Data([UInt8](repeating: 0, count: before) + scalar).base64EncodedString().utf8
            // Without what bytes in front of it and behind it have a part in.
            let first = (before * 8 + 5) / 6
            forms["base64 \(before)"] = Array(text.prefix((before + 32) * 8 / 6).dropFirst(first))
        }
        return forms
    }

    /// What of it is in these bytes: the names of forms.
    func found(in bytes: [UInt8]) -> [String] {
        // Lines may be broken anywhere, also as they are in JSON.
        var joined: [UInt8] = []
        joined.reserveCapacity(bytes.count)
        var isEscape = false
        for byte in bytes {
            if isEscape { joined.removeLast() }
            switch byte {
            case UInt8(ascii: "n") where isEscape, UInt8(ascii: "r") where isEscape, ...0x20: break
            case UInt8(ascii: "-"): joined.append(UInt8(ascii: "+"))
            case UInt8(ascii: "_"): joined.append(UInt8(ascii: "/"))
            default: joined.append(byte)
            }
            isEscape = byte == UInt8(ascii: "\\")
        }
        return forms.filter { form in
            [bytes, joined].contains { $0.withUnsafeBytes { offset(of: form.value, in: $0) != nil } }
        }.keys.sorted()
    }
    func isIn(_ pid: pid_t) throws -> Bool {
        let forms = forms.values
        var isFound = false
        try forEachRegion(of: pid) { region in
            isFound = isFound || forms.contains { offset(of: $0, in: region) != nil }
        }
        return isFound
    }
}

/// Every file below it with what it has of any of the keys; a report in a `.tar.gz` is opened.
func leaks(of keys: Set<PrivateKey>, below path: String) throws -> [String] {
    var result: [String] = []
    for file in try run(["find", path, "-type", "f"]).split(separator: "\n").map(String.init) {
        let bytes =
            file.hasSuffix(".tar.gz")
            ? Array(try run(["sh", "-c", "tar -xzOf \"$1\" | base64 -w 0", "sh", file]).utf8).decodedFromBase64
            : readBytes(file)
        for key in keys { result += key.found(in: bytes).map { "\(file): \($0)" } }
    }
    return result
}

extension [UInt8] {
    fileprivate var decodedFromBase64: [UInt8] { Data(base64Encoded: Data(self)).map { Array($0) } ?? [] }
}

private func readBytes(_ path: String) -> [UInt8] {
    (try? Data(contentsOf: URL(filePath: path))).map { Array($0) } ?? []
}

/// What a process can write to, a piece at a time; pieces overlap by more than a key has.
private func forEachRegion(of pid: pid_t, _ body: (UnsafeRawBufferPointer) -> Void) throws {
    let memory = open("/proc/\(pid)/mem", O_RDONLY | O_CLOEXEC)
    guard memory >= 0 else { throw TestFailure.errno("open the memory of \(pid)") }
    defer { close(memory) }
    let (piece, overlap) = (1 << 20, 256)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: piece + overlap, alignment: 16)
    defer { buffer.deallocate() }
    for line in readText("/proc/\(pid)/maps").split(separator: "\n") where line.contains(" rw") {
        let bounds = line.prefix { $0 != " " }.split(separator: "-").compactMap { UInt64($0, radix: 16) }
        guard bounds.count == 2 else { continue }
        for start in stride(from: bounds[0], to: bounds[1], by: piece) {
            let size = min(Int(bounds[1] - start), buffer.count)
            let count = pread(memory, buffer.baseAddress, size, off_t(truncatingIfNeeded: start))
            if count > 0 { body(UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
        }
    }
}
