/// Connections at full speed on several threads, each recorded with its start, its end and who answered, so that a test
/// can tell afterwards whether that backend was a right answer at any moment of the connection.
import Glibc
import Synchronization

final class Storm {
    /// As it goes over the wire: native byte order, 24 bytes.
    struct Record: BitwiseCopyable {
        let start: UInt64
        let end: UInt64
        /// Index into the names; meaningless when `error` is not 0.
        let name: UInt32
        let error: Int32
    }

    private final class Worker: Sendable {
        let isStopped = Atomic(false)
        let result = Mutex<(names: [[UInt8]], records: [Record])>(([], []))

        func run(_ target: Target) {
            var names: [[UInt8]] = []
            var records: [Record] = []
            records.reserveCapacity(100_000)
            withUnsafeTemporaryAllocation(byteCount: Target.answerSize, alignment: 8) { buffer in
                while !isStopped.load(ordering: .relaxed) {
                    let start = monotonicNs()
                    let attempt = target.attempt(buffer, isOneOfMany: true)
                    let end = monotonicNs()
                    attempt.end()
                    let index = attempt.error == 0 ? Self.index(buffer[..<attempt.count], &names) : 0
                    records.append(Record(start: start, end: end, name: UInt32(index), error: attempt.error))
                }
            }
            result.withLock { [names, records] in $0 = (names, records) }
        }

        private static func index(_ answer: Slice<UnsafeMutableRawBufferPointer>, _ names: inout [[UInt8]]) -> Int {
            let name = answer.prefix { $0 != UInt8(ascii: "|") }
            if let known = names.firstIndex(where: { $0.elementsEqual(name) }) { return known }
            names.append(Array(name))
            return names.count - 1
        }
    }

    private let workers: [(worker: Worker, thread: pthread_t)]

    init(_ target: Target, threads: Int) {
        workers = (0..<threads).map { _ in
            let worker = Worker()
            return (worker, startThread { worker.run(target) })
        }
    }

    func stop() -> (names: [String], count: Int, records: [UInt8]) {
        for (worker, _) in workers { worker.isStopped.store(true, ordering: .relaxed) }
        var names: [String] = []
        var all: [Record] = []
        for (worker, thread) in workers {
            pthread_join(thread, nil)
            let result = worker.result.withLock { $0 }
            let base = UInt32(names.count)
            names += result.names.map { String(decoding: $0, as: UTF8.self) }
            all += result.records.map { Record(start: $0.start, end: $0.end, name: $0.name + base, error: $0.error) }
        }
        return (names, all.count, all.withUnsafeBytes { Array($0) })
    }
}
