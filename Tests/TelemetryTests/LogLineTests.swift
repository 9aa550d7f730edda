// Log records as lines.
import Glibc
import Testing

@testable import Telemetry

@Suite struct LogLineTests {
    private let time = timespec(tv_sec: 1_700_000_000, tv_nsec: 42_000_000)

    @Test func textQuotesOnlyWhatNeedsIt() {
        let line = LogLine(level: "info", message: "synced", fields: [("services", "3"), ("why", "new services")])
        #expect(
            line.formatted(.text, time: time)
                == "2023-11-14T22:13:20.042Z INFO synced services=3 why=\"new services\"\n")
    }

    @Test func aRecordIsAlwaysOneLine() {
        let line = LogLine(level: "error", message: "first\nsecond")
        #expect(line.formatted(.text, time: time) == "2023-11-14T22:13:20.042Z ERROR first | second\n")
        #expect(line.formatted(.json, time: time).filter(\.isNewline).count == 1)
    }

    @Test(arguments: ["\u{1b}[2J", "\u{9b}2J", "\u{85}", "\u{7f}", "\u{202e}", "\r", "\u{2028}"])
    func nothingReachesATerminal(danger: String) {
        let line = LogLine(level: "info", message: "a\(danger)b", fields: [("k", danger), ("é", "ü\(danger)")])
        for format in LogLine.Format.allCases {
            let shown = line.formatted(format, time: time).dropLast()
            #expect(!shown.unicodeScalars.contains { $0.isTerminalControl }, "\(shown.debugDescription)")
            #expect(shown.contains("ü") && shown.contains("a") && shown.contains("b"))
        }
        #expect("a\tb\nü" == "a\tb\nü".terminalSafe() && "\u{9b}".terminalSafe() == "\\u009b")
    }

    /// Whoever logs goes on, the line is counted.
    @Test func aLogThatNobodyReadsHoldsUpNobody() {
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let line = LogLine(level: "info", message: String(repeating: "x", count: 4000))
        let before = LogLine.lost
        // A pipe takes 16 of them.
        for _ in 0..<40 { line.write(.text, to: ends[1]) }
        #expect(LogLine.lost >= before + 20)
        var byte = [UInt8](repeating: 0, count: 1 << 16)
        #expect(read(ends[0], &byte, byte.count) > 4000)
    }

    @Test func jsonEscapesWhatJSONForbids() {
        let line = LogLine(level: "warning", message: "a\"b\\c\u{1}", fields: [("k", "v\n")])
        #expect(
            line.formatted(.json, time: time) == #"{"time":"2023-11-14T22:13:20.042Z","level":"warning","#
                + #""message":"a\"b\\c\u0001","k":"v\n"}"# + "\n")
    }
}
