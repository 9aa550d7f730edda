// An agent reuses the maps of its predecessor if the schema's version is the same: no layout may change without it.
import Testing

@Suite struct KernelFormatTests {
    /// Of `bpf/include/abi.h`: the version, and a checksum of all its structs.
    private static let recorded = (version: 6, checksum: 0x8262_f4eb_b593_7b26 as UInt64)

    @Test func noLayoutChangesWithoutItsVersion() throws {
        let header = try #require(SourceTree.files.first { $0.path == "bpf/include/abi.h" })
        let text = withoutComments(header.lines.joined(separator: "\n"))
        let version = text.split(separator: "\n").compactMap { line -> Int? in
            let words = line.split(separator: " ")
            return words.count == 3 && words[1] == "HEDDLE_SCHEMA_VERSION" ? Int(words[2]) : nil
        }.first
        let checksum = checksum(of: structs(in: text))
        #expect(
            version == Self.recorded.version && checksum == Self.recorded.checksum,
            """
            a struct shared with the kernel is not what it was at version \(Self.recorded.version): raise \
            HEDDLE_SCHEMA_VERSION, so that no agent takes over maps of another layout, and record here version \
            \(version ?? 0), checksum \(checksum)
            """)
    }

    @Test func aChangedMemberIsNoticed() {
        let one = structs(in: "struct heddle_a {\n\t__u32 x;\n};\nenum b { C };\n")
        #expect(one == ["struct heddle_a { __u32 x; };"])
        #expect(checksum(of: one) != checksum(of: ["struct heddle_a { __u64 x; };"]))
    }

    private func withoutComments(_ text: String) -> String {
        let parts = text.split(separator: "/*", omittingEmptySubsequences: false)
        return parts.dropFirst().reduce(into: String(parts.first ?? "")) { result, part in
            result += part.firstRange(of: "*/").map { part[$0.upperBound...] } ?? ""
        }
    }

    /// Their text with single blanks.
    private func structs(in text: String) -> [String] {
        var result: [String] = []
        var open: [Substring] = []
        for line in text.split(separator: "\n") {
            if open.isEmpty, !(line.hasPrefix("struct heddle_") && line.hasSuffix("{")) { continue }
            open += line.split { $0 == " " || $0 == "\t" }
            guard line.hasPrefix("}") else { continue }
            result.append(open.joined(separator: " "))
            open = []
        }
        return result
    }

    /// FNV-1a.
    private func checksum(of texts: [String]) -> UInt64 {
        texts.joined(separator: "\n").utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }
}
