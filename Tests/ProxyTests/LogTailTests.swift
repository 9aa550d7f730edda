/// The tail of a log: lines by their offset, and what is dropped.
import Testing

@testable import Proxy

@Suite struct LogTailTests {
    @Test func linesAreReadOnce() {
        var tail = LogTail()
        tail.append("one\ntwo\n".utf8)
        let first = tail.read(from: 0)
        #expect(first.text == "one\ntwo\n" && first.next == 8 && first.missed == 0)
        tail.append("three\n".utf8)
        #expect(tail.read(from: first.next).text == "three\n")
        #expect(tail.read(from: 14).text == "")
        // Another process counts anew.
        #expect(tail.read(from: 1000).text == "one\ntwo\nthree\n")
    }

    @Test func whatIsOldGoesInWholeLines() {
        var tail = LogTail()
        for number in 0..<20_000 { tail.append("line \(number) of the log\n".utf8) }
        let all = tail.read(from: 0)
        #expect(all.text.utf8.count <= LogTail.capacity && all.text.hasPrefix("line "))
        #expect(all.text.hasSuffix("line 19999 of the log\n"))
        let late = tail.read(from: 10)
        #expect(late.missed > 0 && late.text == all.text)
    }
}
