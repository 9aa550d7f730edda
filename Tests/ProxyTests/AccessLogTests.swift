/// An output that nobody reads, or that is gone, costs lines and nothing else.
import Addressing
import Balancing
import Glibc
import Testing
import TestSupport

@testable import Proxy
@testable import RouteIR

@Suite struct AccessLogTests {
    private func record(_ path: String) -> RequestRecord {
        var record = RequestRecord(
            began: .start, ended: .start, scheme: "http", client: SocketAddress(IPAddress(v4: 1), 1),
            dialled: SocketAddress(IPAddress(v4: 2), 80))
        record.path = path
        return record
    }
    private let node = ProxyNode(name: "n")
    private let long = String(repeating: "a", count: 8000)

    @Test func anUnreadPipeNeitherBlindsNorBlocks() throws {
        signal(SIGPIPE, SIG_IGN)
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        let log = try AccessLog(.text, descriptor: ends[1])
        // More than the pipe and the buffer hold.
        for number in 0..<900 { log.log(record("/\(number)/\(long)"), node: node) }
        try eventually("lines are lost") {
            log.log(record("/more/\(long)"), node: node)
            return log.lostLines > 0
        }
        log.log(record("/last"), node: node)
        #expect(String(decoding: log.answer(from: 0), as: UTF8.self).contains("/last"))
        // Returns, although its thread hangs in the pipe.
        log.stop()
        close(ends[0])
    }

    @Test func linesThatAFailedWriteLosesAreCounted() throws {
        signal(SIGPIPE, SIG_IGN)
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        close(ends[0])
        let log = try AccessLog(.text, descriptor: ends[1])
        for number in 0..<10 { log.log(record("/\(number)"), node: node) }
        try eventually("all are counted") { log.lostLines == 10 }
        #expect(String(decoding: log.answer(from: 0), as: UTF8.self).contains("/9"))
        log.stop()
        close(ends[1])
    }

    @Test func linesAreWritten() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        let log = try AccessLog(.text, descriptor: ends[1])
        for round in 0..<3 {
            log.log(record("/\(round)"), node: node)
            var text: [UInt8] = []
            while !text.contains(0x0a) {
                var chunk = [UInt8](repeating: 0, count: 4096)
                let count = read(ends[0], &chunk, chunk.count)
                try #require(count > 0)
                text += chunk[..<count]
            }
            #expect(String(decoding: text, as: UTF8.self).contains("/\(round)"))
        }
        log.log(record("/end"), node: node)
        log.stop()
        close(ends[1])
        var rest = [UInt8](repeating: 0, count: 4096)
        let count = read(ends[0], &rest, rest.count)
        #expect(String(decoding: rest[..<max(0, count)], as: UTF8.self).contains("/end"))
        close(ends[0])
    }
}
