/// Every code stands in docs/analyze.md with its cause and remedy, has an example, and is as severe as it says there.
import Cluster
import TestSupport
import Testing

@testable import Validation

private let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

@Suite struct CodeTests {
    private struct Row {
        let severity: String
        let code: String
        let texts: [Substring]
    }
    private let rows = readText(root + "/docs/analyze.md").split(separator: "\n").compactMap { line -> Row? in
        let cells = line.split(separator: "|").map { $0.drop { $0 == " " } }
        guard cells.count == 4, cells[1].hasPrefix("`") else { return nil }
        return Row(
            severity: String(cells[0].prefix { $0 != " " }), code: String(cells[1].dropFirst().prefix { $0 != "`" }),
            texts: Array(cells[2...]))
    }

    /// Of files and of the agents' options: their tests are elsewhere.
    private let elsewhere: Set = ["undecodable", "given-twice", "left-out", "external-ips-off"]

    @Test func eachIsExplainedOnce() {
        #expect(rows.count > 30 && Set(rows.map(\.code)).count == rows.count)
        for row in rows {
            #expect(Severity(rawValue: row.severity) != nil, "\(row.code)")
            #expect(row.texts.allSatisfy { $0.count > 5 }, "\(row.code) has no cause or no remedy")
        }
    }
    @Test func eachThatIsExplainedHasAnExample() {
        #expect(Set(rows.map(\.code)).subtracting(elsewhere) == Set(faultExamples.map(\.code)))
    }
    @Test func examplesAreAsSevereAsIsSaid() {
        let said = Dictionary(rows.map { ($0.code, $0.severity) }) { first, _ in first }
        for judgement in faultExamples.flatMap({ report($0.text, complete: $0.complete).judgements }) {
            #expect(said[judgement.code] == judgement.severity.rawValue, "\(judgement)")
        }
    }
    /// The words that stand in the code where something is found.
    @Test func eachOfTheCodeIsExplained() {
        let callees = ["reason: \"", "note(\"", "refuse(\"", "warn(\"", "add(\""]
        var found: Set<String> = []
        for folder in ["Compile", "Compile/Routes", "Validation"] {
            for file in directoryEntries("\(root)/Sources/\(folder)") where file.hasSuffix(".swift") {
                // Some stand on the line below.
                let text = readText("\(root)/Sources/\(folder)/\(file)").split(separator: "\n").map { line in
                    line.drop { $0 == " " }
                }.joined()
                for callee in callees {
                    for piece in text.split(separator: callee, omittingEmptySubsequences: false).dropFirst() {
                        found.insert(String(piece.prefix { $0 != "\"" }))
                    }
                }
            }
        }
        let codes = found.filter { $0.contains("-") && $0.allSatisfy { $0.isLowercase && $0.isLetter || $0 == "-" } }
        #expect(codes.count > 30)
        #expect(codes.subtracting(rows.map(\.code)) == [])
    }
}
