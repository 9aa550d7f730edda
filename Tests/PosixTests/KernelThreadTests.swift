/// A KernelThread runs all work of its actors, in order, on one thread, and ends when told.
import Glibc
import Posix
import Testing

private actor Worker {
    let thread: KernelThread
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private var calls = 0

    init(_ thread: KernelThread) { self.thread = thread }
    func call() -> (thread: UInt, count: Int) {
        calls += 1
        return (UInt(pthread_self()), calls)
    }
    func threadName() -> String {
        let file = open("/proc/thread-self/comm", O_RDONLY)
        defer { close(file) }
        let bytes = [UInt8](unsafeUninitializedCapacity: 64) { $1 = max(0, read(file, $0.baseAddress, $0.count)) }
        return String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }
    nonisolated func assume() -> Int { assumeIsolated { $0.calls } }
    func assumeInside() -> Int { assume() }
}

@Suite struct KernelThreadTests {
    @Test func everyCallRunsOnTheOneThread() async throws {
        let thread = try KernelThread(name: "test-kernel")
        let worker = Worker(thread)
        var threads = Set<UInt>()
        for expected in 1...100 {
            let call = await worker.call()
            #expect(call.count == expected)
            threads.insert(call.thread)
        }
        #expect(threads.count == 1)
        #expect(!threads.contains(UInt(pthread_self())))
        thread.shutdown()
    }

    @Test func concurrentCallersLoseNothing() async throws {
        let thread = try KernelThread(name: "test-kernel")
        let worker = Worker(thread)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<50 { group.addTask { for _ in 0..<100 { _ = await worker.call() } } }
        }
        #expect(await worker.call().count == 5001)
        thread.shutdown()
    }

    @Test func theThreadIsNamedAndKnowsItself() async throws {
        let thread = try KernelThread(name: "a-name-longer-than-fifteen")
        let worker = Worker(thread)
        #expect(await worker.threadName() == "a-name-longer-t")
        #expect(await worker.assumeInside() == 0)
        thread.shutdown()
    }

    @Test func shutdownTwiceIsHarmless() throws {
        let thread = try KernelThread(name: "test-kernel")
        thread.shutdown()
        thread.shutdown()
    }
}
