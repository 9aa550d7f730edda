// Files read and written to the end, with the pipes, sockets and refusals of a real system.
import Glibc
import Posix
import Synchronization
import TestSupport
import Testing

@Suite struct FileTests {
    private let folder: TemporaryDirectory
    init() throws { folder = try TemporaryDirectory() }

    // MARK: Reading

    @Test func aFileIsReadWholeOrUpToALimitOrRefused() throws {
        let path = folder.path + "/f"
        let text = String(repeating: "0123456789", count: 20_000)
        try writeText(text, to: path)
        #expect(try readFile(path, upTo: .max) == Array(text.utf8))
        #expect(try readFile(path, upTo: 70_001) == Array(text.utf8.prefix(70_001)))
        #expect(try readFile(path, limit: 200_000).count == 200_000)
        let tooLarge = #expect(throws: PosixError.self) { try readFile(path, limit: 199_999) }
        #expect(tooLarge == PosixError("\(path) has more than 199999 bytes", code: EFBIG))
        let missing = #expect(throws: PosixError.self) { try readFile(path + "x", upTo: 1) }
        #expect(missing?.code == ENOENT && missing?.description.contains("cannot read \(path)x: No such") == true)
        // It can be opened, and fails when it is read.
        #expect(throws: PosixError.errno("read \(folder.path)", EISDIR)) { try readFile(folder.path, upTo: 1) }
        #expect(readSmallFile(path) == text && readSmallFile(path + "x") == nil && readSmallFile(folder.path) == nil)
        // Its size is said to be 0.
        #expect(try readFile("/proc/self/status", limit: 1 << 20).count > 100)
    }

    // MARK: Writing

    /// Beyond what a pipe holds and without room for some time, as a log that is read slowly.
    @Test(arguments: [0, O_NONBLOCK]) func everythingGoesThroughAPipeThatIsFull(flags: Int32) throws {
        let (reader, writer) = try pipeEnds()
        defer { close(reader) }
        #expect(fcntl(writer, F_SETFL, flags) == 0)
        let sent = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let ended = Mutex<WriteOutcome?>(nil)
        let thread = try JoinableThread {
            let outcome = writeAll(sent, to: writer)
            close(writer)
            ended.withLock { $0 = outcome }
        }
        var buffered: Int32 = 0
        try eventually("the pipe is full") { ioctl(reader, UInt(FIONREAD), &buffered) == 0 && buffered == 65536 }
        #expect(ended.withLock { $0 } == nil)
        var received: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 8000)
        while case let count = read(reader, &chunk, chunk.count), count > 0 { received += chunk[..<count] }
        #expect(received == sent)
        thread.join()
        #expect(ended.withLock { $0 } == WriteOutcome(count: sent.count, code: 0))
    }

    /// A handler without SA_RESTART: the first write(2) shows that the signal gets through to a call that waits.
    @Test func aSignalLosesNothing() throws {
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        var before = sigaction()
        sigaction(SIGURG, &action, &before)
        defer { sigaction(SIGURG, &before, nil) }
        let (reader, writer) = try pipeEnds()
        defer { for end in [reader, writer] { close(end) } }
        #expect(fcntl(writer, F_SETFL, O_NONBLOCK) == 0)
        var page = [UInt8](repeating: 1, count: 4096)
        while write(writer, page, page.count) > 0 {}
        #expect(fcntl(writer, F_SETFL, 0) == 0)

        let state = Mutex<(thread: pthread_t?, code: Int32?, outcome: WriteOutcome?)>((nil, nil, nil))
        try startThread {
            var signals = sigset_t()
            sigemptyset(&signals)
            sigaddset(&signals, SIGURG)
            pthread_sigmask(SIG_UNBLOCK, &signals, nil)
            state.withLock { $0.thread = pthread_self() }
            let code = write(writer, [2], 1) < 0 ? errno : 0
            state.withLock { $0.code = code }
            let outcome = writeAll([3, 4, 5], to: writer)
            state.withLock { $0.outcome = outcome }
        }
        func interrupt() { if let thread = state.withLock(\.thread) { pthread_kill(thread, SIGURG) } }
        try eventually("a call is interrupted") {
            interrupt()
            return state.withLock { $0.code } == EINTR
        }
        var interruptions = 0
        try eventually("it is interrupted again and again") {
            interrupt()
            interruptions += 1
            return interruptions > 50
        }
        #expect(state.withLock { $0.outcome } == nil)
        var last: ArraySlice<UInt8> = []
        try eventually("it is through") {
            let count = read(reader, &page, page.count)
            last = page[..<max(0, count)].suffix(3)
            return last == [3, 4, 5]
        }
        try eventually("it is told") { state.withLock { $0.outcome } == WriteOutcome(count: 3, code: 0) }
    }

    @Test func whatCannotBeWrittenIsToldWithHowFarItCame() throws {
        let full = open("/dev/full", O_WRONLY | O_CLOEXEC)
        defer { close(full) }
        #expect(writeAll([1, 2], to: full) == WriteOutcome(count: 0, code: ENOSPC))
        #expect(writeAll([], to: full) == WriteOutcome(count: 0, code: 0))
        #expect(writeAll([1], to: -1) == WriteOutcome(count: 0, code: EBADF))

        var pair: [Int32] = [-1, -1]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0)
        defer { close(pair[0]) }
        var limit = timeval(tv_sec: 0, tv_usec: 20_000)
        setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        // Nobody reads: its own time limit ends it, and it is not tried for ever.
        let outcome = sendAll([UInt8](repeating: 0, count: 10 << 20), to: pair[0])
        #expect(outcome.code == EAGAIN && outcome.count > 0 && outcome.count < 10 << 20, "\(outcome)")
        close(pair[1])
        #expect(sendAll([1], to: pair[0]) == WriteOutcome(count: 0, code: EPIPE))
    }

    // MARK: Replacing

    @Test func aFileIsReplacedAsAWhole() throws {
        let path = folder.path + "/f"
        let file = DurableFile(path)
        try file.replace { (put) throws(PosixError) in try put(Array("old".utf8)) }
        let large = [UInt8](repeating: 7, count: 1 << 20)
        try file.replace { (put) throws(PosixError) in
            try put(large)
            #expect(readText(path) == "old")
            try put([8])
        }
        #expect(try readFile(path, upTo: .max) == large + [8])
        #expect(directoryEntries(folder.path) == ["f"])
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
    }

    /// The contents, the writing, the renaming, and the making of the new file fail.
    @Test func aFailureLeavesTheOldFileAndNothingBesideIt() throws {
        let path = folder.path + "/f"
        let file = DurableFile(path)
        func failure(_ contents: [UInt8] = [1], of file: DurableFile) -> PosixError? {
            do { try file.replace { (put) throws(PosixError) in try put(contents) } } catch { return error }
            return nil
        }
        try writeText("old", to: path)
        #expect(throws: PosixError("no more")) {
            try file.replace { (put) throws(PosixError) in
                try put([1])
                throw PosixError("no more")
            }
        }
        #expect(directoryEntries(folder.path) == ["f"] && readText(path) == "old")
        // A file system without room.
        #expect(symlink("/dev/full", path + ".new") == 0)
        #expect(failure(of: file) == .errno("write \(path).new", ENOSPC))
        #expect(directoryEntries(folder.path) == ["f"] && readText(path) == "old")

        let directory = DurableFile(folder.path + "/d")
        #expect(mkdir(directory.path, 0o700) == 0)
        #expect(failure(of: directory) == .errno("rename \(directory.path).new", EISDIR))
        #expect(directoryEntries(folder.path).sorted() == ["d", "f"])
        let nowhere = DurableFile(folder.path + "/no/f")
        #expect(failure(of: nowhere) == .errno("make \(nowhere.path).new", ENOENT))
    }

    private func pipeEnds() throws -> (reader: Int32, writer: Int32) {
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }
}
