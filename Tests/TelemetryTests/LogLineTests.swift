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

    @Test func jsonEscapesWhatJSONForbids() {
        let line = LogLine(level: "warning", message: "a\"b\\c\u{1}", fields: [("k", "v\n")])
        #expect(
            line.formatted(.json, time: time) == #"{"time":"2023-11-14T22:13:20.042Z","level":"warning","#
                + #""message":"a\"b\\c\u0001","k":"v\n"}"# + "\n")
    }
}
