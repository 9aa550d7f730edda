// What people see: aligned tables, ages, sizes and the status page.
import AdminAPI
import FoundationEssentials
import Telemetry
import Testing

@testable import AgentCommands

@Suite struct TableTests {
    @Test func columnsAreAlignedWithoutTrailingSpaces() {
        var table = Table("NAME", "SIZE")
        table.add("a-long-name", "1")
        table.add("b", "200")
        #expect(table.text == "NAME         SIZE\na-long-name  1\nb            200\n")
    }

    @Test func emptyCellsAndLettersBeyondASCIIKeepTheirColumns() {
        var table = Table("A", "B", "C")
        table.add("ä", "", "x")
        table.add("bb", "", "")
        #expect(table.text == "A   B  C\nä      x\nbb\n")
        #expect(table.text { column, cell in column == 0 ? "<\(cell)>" : cell } == "A   B  C\n<ä>      x\n<bb>\n")
    }

    /// What tenants write is shown, our own colours are colours.
    @Test func othersCannotMoveTheTerminal() {
        let text = "\u{1B}[31mred\u{1B}[0m \u{1B}[2J\u{9b}2J\u{202e}\r\n\tü"
        #expect(
            text.terminalSafe(keeping: Paint.sequenceLength)
                == "\u{1B}[31mred\u{1B}[0m \\u001b[2J\\u009b2J\\u202e\\u000d\n\tü")
    }

    @Test func theProxySaysWhatItKeeps() throws {
        let answer = #"{"heldBytes":1572864,"memoryLimit":536870912,"limited":{"series":2,"mirror-buffer":7}}"#
        let stats = try JSONDecoder().decode(ProxyStats.self, from: Data(answer.utf8))
        #expect(
            stats.text == "kept for clients: 1.5 MiB of 512.0 MiB; cut short at a bound: mirror-buffer 7, series 2 "
                + "(docs/l7.md, Bounds)")
        #expect(try JSONDecoder().decode(ProxyStats.self, from: Data(#"{"connections":1}"#.utf8)).text == nil)
    }

    @Test func agesAndSizes() {
        #expect(age(0.44) == "0.4s" && age(65) == "65s" && age(600) == "10m" && age(90_000) == "25h")
        #expect(byteCount(512) == "512 B" && byteCount(1536) == "1.5 KiB" && byteCount(64 << 20) == "64.0 MiB")
    }

    @Test func theStatusSaysWhatIsWrong() {
        var status = AgentStatus(
            node: "n", version: "1", dataplane: .init(name: "ebpf", configured: "asked for"))
        status.sync.failuresInARow = 2
        status.sync.lastError = "map full"
        status.refused = [.init(service: "ns/a", reason: "does not fit")]
        status.sources = [.init(name: "manifests:/m")]
        let text = statusText(status, wide: false)
        for part in ["NOT ready", "NOT attached", "NOT in sync", "2 failures: map full", "ns/a: does not fit"] {
            #expect(text.contains(part))
        }
    }
}
