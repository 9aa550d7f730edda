// Other programs: what they get of us, how they end, and that none stays behind.
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Posix

@Suite struct CommandTests {
    private func run(
        _ script: String, environment: [String: String] = ["PATH": "/usr/bin:/bin"], joinsErrors: Bool = false,
        limit: Int = 1 << 20, patience: Duration = .seconds(30)
    ) throws -> (output: String, end: Command.End) {
        let (output, end) = try Command(
            "sh", ["-c", script], environment: environment, joinsErrors: joinsErrors
        ).run(limit: limit, patience: patience)
        return (String(decoding: output, as: UTF8.self), end)
    }

    @Test(arguments: [
        ("echo out; exit 3", false, "out\n", Command.End.exited(3)),
        ("echo out; echo err >&2", true, "out\nerr\n", .exited(0)), ("kill -9 $$", false, "", .killed(signal: 9)),
        ("echo $A$HOME", false, "b\n", .exited(0)), ("cat", false, "", .exited(0)),
    ])
    func whatItPrintsAndHowItEnds(script: String, joinsErrors: Bool, output: String, end: Command.End) throws {
        let result = try run(script, environment: ["PATH": "/usr/bin:/bin", "A": "b"], joinsErrors: joinsErrors)
        #expect(result.output == output && result.end == end, "\(result)")
    }

    @Test func aProgramThatIsNotThereIsTold() {
        let error = #expect(throws: PosixError.self) {
            try Command("/no/such", []).run(limit: 1, patience: .seconds(1))
        }
        #expect(error == .errno("start /no/such", ENOENT))
    }

    /// A group of its own, no signal blocked or ignored, /dev/null to read, and none of our descriptors.
    @Test func itGetsNothingOfOurs() throws {
        let ours = open("/dev/zero", O_RDONLY)
        defer { close(ours) }
        let before = signal(SIGUSR2, SIG_IGN)
        defer { signal(SIGUSR2, before) }
        let script =
            "echo $$; cut -d' ' -f5 /proc/$$/stat; grep -E 'Sig(Blk|Ign)' /proc/$$/status; readlink /proc/$$/fd/*"
        let lines = try run(script).output.split(separator: "\n")
        try #require(lines.count >= 4)
        #expect(lines[0] == lines[1], "its group")
        // Signals 32 and 33 are glibc's own, which nobody can set.
        let masks = lines[2...3].map { (UInt64($0.split(separator: "\t")[1], radix: 16) ?? .max) & ~(3 << 31) }
        #expect(masks == [0, 0], "\(lines)")
        #expect(lines[4] == "/dev/null" && lines[5].hasPrefix("pipe:") && !lines.contains("/dev/zero"), "\(lines)")
    }

    /// One that prints without end would wait for a reader for ever.
    @Test func oneThatPrintsTooMuchIsStopped() throws {
        let (output, end) = try run("yes", limit: 100_000)
        #expect(output.utf8.count == 100_000 && end == .tooLong(limit: 100_000))
        let whole = try run("printf 12345", limit: 5)
        #expect(whole.output == "12345" && whole.end == .exited(0))
    }

    @Test func oneThatTakesTooLongIsStoppedWithAllItStarted() throws {
        let patience = Duration.milliseconds(300)
        for script in ["sleep 1000 & echo $!; wait", "echo $$; exec >&-; sleep 1000"] {
            let (output, end) = try run(script, patience: patience)
            #expect(end == .late(patience))
            let child = try #require(Int32(output.dropLast()))
            try eventually("it has ended") { kill(child, 0) != 0 || readText("/proc/\(child)/stat").contains(") Z ") }
        }
    }

    /// And so with the process, however that ends.
    @Test func itEndsWithTheThreadThatStartedIt() throws {
        let gate = Semaphore()
        let started = Mutex<pid_t>(0)
        let thread = try JoinableThread {
            let child = try? Command("sleep", ["1000"]).start(output: STDERR_FILENO)
            if let end = child?.end { close(end) }
            started.withLock { $0 = child?.pid ?? -1 }
            gate.wait()
        }
        try eventually("it runs") { started.withLock { $0 } != 0 }
        let child = started.withLock { $0 }
        #expect(child > 0 && kill(child, 0) == 0 && !readText("/proc/\(child)/stat").contains(") Z "))
        gate.signal()
        thread.join()
        var status: Int32 = 0
        #expect(waitpid(child, &status, 0) == child && status & 0x7f == SIGKILL)
    }

    @Test func theEnvironmentIsTheOneWeWereStartedWith() {
        #expect(ownEnvironment()["PATH"]?.isEmpty == false)
    }
}
