// Arguments in, options or a sentence out; help, docs and chart know every option.
import Addressing
import Options
import TestSupport
import Testing
import YAML

@testable import ProxyProgram

@Suite struct ProxyOptionsTests {
    private static let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()

    @Test func examplesInTheHelpAreRight() throws {
        let examples = ProxyOptions.usage.split(separator: "\n").filter { $0.hasPrefix("  heddle-proxy") }
        #expect(examples.count >= 2 && ProxyOptions.usage.contains("\nExamples:\n"))
        for example in examples {
            let words = example.split(separator: " ").dropFirst().map(String.init)
            #expect(throws: Never.self, "\(example)") { try ProxyOptions(words) }
        }
    }

    @Test func valuesOfEveryKind() throws {
        let options = try ProxyOptions([
            "--listen-port", "0", "--node-ports=1,2", "--access-log", "off", "--otlp-endpoint", "http://127.0.0.1:4318",
            "--trace-sampling", "2.5", "--drain-time", "0", "--memory-limit=64", "--threads", "3",
            "--listen-address", "::1",
        ])
        #expect(options.listenPort == 0 && options.nodePorts == [1, 2] && options.effectiveAccessLog == nil)
        #expect(options.otlpEndpoint?.port == 4318 && options.sampling == 25_000 && options.drainTime == .zero)
        #expect(options.memoryLimit == 64 << 20 && options.threads == 3 && options.listenAddress?.isLoopback == true)
    }

    @Test(arguments: [
        (["--nope", "1"], "unknown option --nope, see heddle-proxy --help"),
        (["--thread", "1"], "unknown option --thread, see heddle-proxy --help; did you mean --threads?"),
        (["--threads"], "--threads needs a value: --threads N"),
        (["--threads", "129"], "--threads: \"129\" is not a number from 1 to 128"),
        (["--memory-limit", "15"], "--memory-limit: \"15\" is not a number from 16 to 1048576"),
        (["--listen-port", "65536"], "--listen-port: \"65536\" is not a port from 0 to 65535"),
        (["--drain-time", "5000000000"], "--drain-time: \"5000000000\" is not a number from 0 to 4294967295"),
        (["--node-ports", "1,x"], "--node-ports: \"1,x\" is not a list of ports"),
        (["--trace-sampling", "nan"], "--trace-sampling: \"nan\" is not a number from 0 to 100"),
        (["--access-log", "xml"], "--access-log: \"xml\" is not off, text or json"),
    ])
    func aBadOptionIsNamedWithWhatItMayBe(_ arguments: [String], _ sentence: String) {
        #expect(throws: OptionError(sentence)) { try ProxyOptions(arguments) }
    }

    @Test func everyOptionIsInTheHelpAndInTheDocs() {
        let docs = readText(Self.root + "/docs/l7.md")
        for option in ProxyOptions.options.options {
            #expect(ProxyOptions.usage.contains("  \(option.flag) "), "\(option.name)")
            #expect(docs.contains("`\(option.flag)"), "\(option.name)")
        }
    }

    /// The chart takes every option in `proxy.config`, but for those that it decides itself.
    @Test func theChartKnowsOurOptions() throws {
        let chart = Self.root + "/deploy/helm/heddle"
        var stream = try YAMLStream(Array(readText(chart + "/values.yaml").utf8))
        let first = stream.next()
        let values = try #require(first).get().root
        let config = try #require(values["proxy"]?["config"])
        #expect(throws: Never.self) {
            try ProxyOptions(config.entries.map { "--\($0.0.text)=\($0.1.text)" })
        }
        let lines = readText(chart + "/templates/config.yaml").split(separator: "\n")
        let words = try #require(lines.last { $0.contains("$elsewhere := dict") }).split(separator: "\"")
        let decided = words.indices.filter { $0 % 4 == 1 }.map { String(words[$0]) }
        var written: [String] = []
        for line in readText(chart + "/templates/proxy.yaml").split(separator: "\n") {
            let word = line.drop { $0 == " " }
            guard word.hasPrefix("- --"), !word.hasPrefix("- --config=") else { continue }
            written.append(String(word.dropFirst(4).prefix { $0 != "=" }))
        }
        #expect(decided.count >= 4 && written.count >= 4)
        for name in decided + written { #expect(ProxyOptions.options[name] != nil, "\(name)") }
        // The last of two would win, and the agent would not know.
        for name in written { #expect(decided.contains(name), "\(name)") }
    }
}
