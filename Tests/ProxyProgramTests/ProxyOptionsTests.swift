// `heddle-proxy --help` has examples, which are right.
import Testing

@testable import ProxyProgram

@Suite struct ProxyOptionsTests {
    @Test func examplesInTheHelpAreRight() throws {
        let examples = ProxyOptions.usage.split(separator: "\n").filter { $0.hasPrefix("  heddle-proxy") }
        #expect(examples.count >= 2 && ProxyOptions.usage.contains("\nExamples:\n"))
        for example in examples {
            let words = example.split(separator: " ").dropFirst().map(String.init)
            #expect(throws: Never.self, "\(example)") { try ProxyOptions(words) }
        }
    }
}
