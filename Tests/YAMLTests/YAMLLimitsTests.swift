/// Hostile texts: they must be refused early, with a line, whatever their shape.
import TestSupport
import Testing
import YAML

@Suite struct YAMLLimitsTests {
    private func failure(_ text: String, limits: YAMLLimits = YAMLLimits()) -> YAMLError? {
        do throws(YAMLError) {
            _ = try YAMLStream.documents(in: Array(text.utf8), limits: limits)
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: ["[", "{a: ", "- ", "? "]) func nestingIsLimited(opening: String) throws {
        let error = try #require(failure(String(repeating: opening, count: 200_000)))
        #expect(error.message.contains("nested more than 64 deep"))
        #expect(failure(String(repeating: "[", count: 64) + String(repeating: "]", count: 64)) == nil)
    }
    @Test func depthIsCountedPerBranch() {
        let branch = String(repeating: "[", count: 60) + String(repeating: "]", count: 60)
        #expect(failure("[" + Array(repeating: branch, count: 100).joined(separator: ",") + "]") == nil)
    }
    @Test func valuesAreLimited() throws {
        var limits = YAMLLimits()
        limits.nodes = 1000
        #expect(failure("[" + String(repeating: "a,", count: 998) + "]", limits: limits) == nil)
        let error = try #require(failure("[\n" + String(repeating: "a,", count: 1001) + "]", limits: limits))
        #expect(error.line == 2)
        #expect(error.message.contains("more than 1000 values"))
    }
    @Test func bytesAreLimited() throws {
        var limits = YAMLLimits()
        limits.bytes = 10
        #expect(failure("a: 1234567", limits: limits) == nil)
        #expect(try #require(failure("a: 12345678", limits: limits)).message.contains("11 bytes"))
    }
    /// Nine to the power of nineteen values in twenty lines.
    private let bomb = (1..<20).reduce("a0: &a0 [x, x, x, x, x, x, x, x, x]\n") { text, level in
        let aliases = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
        return text + "a\(level): &a\(level) [\(aliases)]\n"
    }
    @Test func aliasesCannotExpandWithoutLimit() throws {
        let error = try #require(failure(bomb))
        #expect(error.line == 6)
        #expect(error.message.contains("aliases stand for more than 500000 values"))
        #expect(failure(bomb.split(separator: "\n").prefix(5).joined(separator: "\n")) == nil)
    }
    @Test func mergedMappingsAreCountedToo() throws {
        var limits = YAMLLimits()
        limits.aliased = 100
        let text = "a: &a {x: 1, y: 2}\nb:\n" + String(repeating: "- <<: *a\n", count: 21)
        #expect(try #require(failure(text, limits: limits)).message.contains("more than 100 values"))
        #expect(failure("a: &a {x: 1, y: 2}\nb:\n" + String(repeating: "- <<: *a\n", count: 20), limits: limits) == nil)
    }
    @Test func aliasesCannotNestDeeperThanText() throws {
        let text = "a0: &a0 [x]\n" + (1..<70).map { "a\($0): &a\($0) [*a\($0 - 1)]\n" }.joined()
        #expect(try #require(failure(text)).message.contains("nested more than 64 deep"))
    }

    /// Whatever is cut out of or put into a good text, reading ends, within the limits, and any error names a line
    /// of it.
    @Test func damagedTextsNeverEscapeTheLimits() throws {
        var limits = YAMLLimits()
        limits.nodes = 200
        limits.depth = 8
        let good = Array(
            ("# c\na: {b: [1, \"x\", 'three'], c: null}\nd:\n  - e: |\n      text\n    f: >-\n      x\n---\n- \"\\n\"\n"
                + "---\na: &a {b: &b [1], <<: {c: d}}\ne: {<<: [*a, {f: *b}], g: *a}\n")
                .utf8)
        var generator = SeededGenerator()
        for _ in 0..<3000 {
            var text = good
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                let at = Int.random(in: 0..<text.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: text[at] = UInt8.random(in: 0...255, using: &generator)
                case 1:
                    text.insert(Array("[]{}:-?&*!|>'\"%@`\n\t #,".utf8).randomElement(using: &generator) ?? 0, at: at)
                default: text.removeSubrange(at..<min(text.count, at + 3))
                }
            }
            let lines = 1 + text.count { $0 == UInt8(ascii: "\n") }
            let result = Result { () throws(YAMLError) in try YAMLStream.documents(in: text, limits: limits) }
            switch result {
            case .success(let documents):
                for document in documents {
                    #expect(depth(document.root) <= limits.depth + 1, "seed \(generator.seed)")
                    #expect((1...lines).contains(document.root.line), "seed \(generator.seed)")
                }
            case .failure(let error): #expect((1...lines + 1).contains(error.line), "seed \(generator.seed): \(error)")
            }
        }
    }
    private func depth(_ node: YAMLNode) -> Int {
        switch node.kind {
        case .scalar: 1
        case .sequence: 1 + (node.elements.map(depth).max() ?? 0)
        case .mapping: 1 + (node.entries.map { depth($0.value) }.max() ?? 0)
        }
    }
}
