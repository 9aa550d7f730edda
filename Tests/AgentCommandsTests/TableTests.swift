// What people see: aligned tables, ages, sizes and the status page.
import AdminAPI
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
