// One table in: settings, sentences and help out.
import Addressing
import Testing

@testable import Options

private struct Settings: Equatable, Sendable {
    enum Size: String, CaseIterable {
        case small, middle, large
    }
    struct Inner: Equatable, Sendable {
        var bit: UInt8 = 14
    }
    var name = ""
    var size = Size.middle
    var isLoud = false
    var isProud = true
    var pause = Duration.milliseconds(10)
    var label: String?
    var inner = Inner()
    var most: UInt32 = 9
    var bytes = 9
    var least = 9
    var port: UInt16 = 9
    var file: String?

    static let options: OptionTable<Settings> = {
        var table = OptionTable(program: "prog", variables: "PROG_", file: "config", defaults: Settings())
        table.add("node-name", .text("NAME", wanted: "a name"), \.name, "who it is", fallback: "$NAME")
        table.add("size", .choice, \.size, "how large")
        table.add("loud", .isSet, \.isLoud, "with noise")
        table.add("no-pride", .isNotSet, \.isProud, "without pride")
        table.add(
            "pause", .duration(.zero ... .seconds(60), wanted: "a duration of at most 1m like 10ms"), \.pause, "between"
        )
        table.add("label", .path(), \.label, "where it is")
        table.add("bit", .number(0...31), \.inner.bit, "which")
        table.add("most", .number(1 ... .max), \.most, "how many")
        table.add("bytes", .number(0 ... .max), \.bytes, "how much")
        table.add("least", .number(0...Int(Int32.max)), \.least, "how few")
        table.add("port", .portOrZero, \.port, "where")
        table.add("config", .text("FILE", wanted: "a path"), \.file, "a file with the same names")
        return table
    }()
}

@Suite struct OptionTableTests {
    private func settings(
        _ arguments: [String] = [], _ environment: [String: String] = [:], file: [(String, String)] = []
    ) throws(OptionError) -> Settings {
        try Settings.options.settings(arguments: arguments, environment: environment) { (_) throws(OptionError) in
            file.enumerated().map { ConfigurationEntry(key: $1.0, value: $1.1, line: $0 + 1) }
        }
    }
    private func complaint(
        _ arguments: [String] = [], _ environment: [String: String] = [:], file: [(String, String)] = []
    ) -> String? {
        do throws(OptionError) {
            _ = try settings(arguments, environment, file: file)
            return nil
        } catch {
            return error.description
        }
    }

    @Test func eachPlaceGivesEveryKindOfValue() throws {
        let values = [
            ("node-name", "n"), ("size", "large"), ("loud", "true"), ("no-pride", "1"), ("pause", "1.5s"),
            ("label", "/l"), ("bit", "31"),
        ]
        var wanted = Settings()
        (wanted.name, wanted.size, wanted.isLoud, wanted.isProud) = ("n", .large, true, false)
        (wanted.pause, wanted.label, wanted.inner.bit) = (.milliseconds(1500), "/l", 31)
        #expect(try settings(values.flatMap { ["--" + $0.0, $0.1] }.filter { $0 != "true" && $0 != "1" }) == wanted)
        #expect(try settings(values.map { "--\($0.0)=\($0.1)" }) == wanted)
        let variables = values.map { ("PROG_" + $0.0.uppercased().split(separator: "-").joined(separator: "_"), $0.1) }
        #expect(try settings([], Dictionary(uniqueKeysWithValues: variables)) == wanted)
        wanted.file = "f"
        #expect(try settings(["--config", "f"], file: values) == wanted)
    }

    @Test func theFlagWinsOverTheVariableOverTheFileAndTheLastFlagOverTheFirst() throws {
        let file = [("node-name", "file"), ("size", "small"), ("label", "/file")]
        let found = try settings(
            ["--node-name", "first", "--node-name=last"],
            ["PROG_NODE_NAME": "variable", "PROG_SIZE": "large", "PROG_CONFIG": "f"],
            file: file)
        #expect(found.name == "last" && found.size == .large && found.label == "/file")
    }

    @Test(arguments: [
        (["--nope"], "unknown option --nope, see prog --help"),
        (["--node-nam=x"], "unknown option --node-nam, see prog --help; did you mean --node-name?"),
        (["stray"], "unexpected argument \"stray\"; options start with --, see prog --help"),
        (["--node-name"], "--node-name needs a value: --node-name NAME"),
        (["--node-name="], "--node-name: \"\" is not a name"),
        (["--size", "huge"], "--size: \"huge\" is not small, middle or large"),
        (["--loud=yes"], "--loud: \"yes\" is not true or false"),
        (["--pause", "2m"], "--pause: \"2m\" is not a duration of at most 1m like 10ms"),
        (["--pause", "-1s"], "--pause: \"-1s\" is not a duration of at most 1m like 10ms"),
        (["--label", "relative"], "--label: \"relative\" is not an absolute path"),
        (["--bit", "32"], "--bit: \"32\" is not a number from 0 to 31"),
        (["--most", "5000000000"], "--most: \"5000000000\" is not a number from 1 to 4294967295"),
        (["--least", "3000000000"], "--least: \"3000000000\" is not a number from 0 to 2147483647"),
        (["--bytes", "-1"], "--bytes: \"-1\" is not a number of at least 0"),
        (["--port", "70000"], "--port: \"70000\" is not a port from 0 to 65535"),
        (
            ["--pause", "999999h999999h999999h"],
            "--pause: \"999999h999999h999999h\" is not a duration of at most 1m like 10ms"
        ),
    ])
    func aBadFlagIsNamedWithWhatItMayBe(_ arguments: [String], _ sentence: String) {
        #expect(complaint(arguments) == sentence)
    }

    @Test func badVariablesAndKeysAreNamedWithTheirPlace() {
        #expect(complaint([], ["PROG_SIZE": "x"]) == "PROG_SIZE: \"x\" is not small, middle or large")
        let file = { (entries: [(String, String)]) in complaint(["--config", "a.yaml"], file: entries) }
        #expect(file([("bit", "x")]) == "a.yaml:1: bit: \"x\" is not a number from 0 to 31")
        #expect(
            file([("bits", "1")])
                == "a.yaml:1: bits: unknown key, see prog --help for those there are; did you mean bit?")
        #expect(file([("bit", "1"), ("bit", "2")]) == "a.yaml:2: bit: the key is given twice")
        #expect(file([("config", "b.yaml")])?.hasPrefix("a.yaml:1: config: unknown key") == true)
    }

    @Test func whereAProgramTakesNothingFromItsEnvironmentItDoesNot() throws {
        var table = OptionTable(program: "prog", defaults: Settings())
        table.add("size", .choice, \.size, "")
        #expect(table.variables.isEmpty)
        #expect(
            try table.settings(arguments: [], environment: ["SIZE": "large", "PROG_SIZE": "large"]).size == .middle)
    }

    @Test func theHelpSaysEverything() {
        #expect(
            Settings.options.help == """
                  --node-name NAME                    who it is (default: $NAME)
                  --size small|middle|large           how large (default: middle)
                  --loud                              with noise
                  --no-pride                          without pride
                  --pause DURATION                    between (default: 10ms)
                  --label PATH                        where it is
                  --bit N                             which (default: 14)
                  --most N                            how many (default: 9)
                  --bytes N                           how much (default: 9)
                  --least N                           how few (default: 9)
                  --port PORT                         where (default: 9)
                  --config FILE                       a file with the same names

                """)
    }

    @Test(arguments: [
        ("0", 0), ("10ms", 10_000_000), ("1h", 3_600_000_000_000), ("90s", 90_000_000_000), ("1500ms", 1_500_000_000),
    ])
    func durationsAreShownAsTheyAreWritten(text: String, nanoseconds: Int64) throws {
        #expect(parseDuration(text) == .nanoseconds(nanoseconds))
        #expect(
            durationText(.nanoseconds(nanoseconds)) == text
                || parseDuration(durationText(.nanoseconds(nanoseconds))) == .nanoseconds(nanoseconds))
    }
}
