// Unix sockets by path, locks, and what the kernel says of a process.
import Glibc
import Posix
import TestSupport
import Testing

@Suite struct UnixSocketTests {
    private let folder: TemporaryDirectory
    init() throws { folder = try TemporaryDirectory() }

    /// The longest path that fits works at both ends; one byte more is refused by both, with the path and the limit.
    @Test func aPathThatIsTooLongIsRefusedEverywhere() throws {
        let room = UnixSocket.longestPath - folder.path.utf8.count - 1
        let longest = folder.path + "/" + String(repeating: "a", count: room)
        let socket = try UnixSocket.bind(longest, mode: 0o600)
        listen(socket.descriptor, 1)
        close(try UnixSocket.connect(longest))
        let refusals = [
            #expect(throws: PosixError.self) { _ = try UnixSocket.bind(longest + "b", mode: 0o600) },
            #expect(throws: PosixError.self) { _ = try UnixSocket.connect(longest + "b") },
        ]
        for text in refusals.map({ $0?.description ?? "" }) {
            #expect(text.contains(longest + "b") && text.contains("107") && text.contains("108"), "\(text)")
        }
        close(socket.descriptor)
    }

    @Test func theModeIsTheWantedOneWhateverTheMask() throws {
        let path = folder.path + "/s"
        for (mask, wanted) in [(mode_t(0), UInt32(0o600)), (0o077, 0o660)] {
            let before = umask(mask)
            let socket = try UnixSocket.bind(path, mode: wanted)
            #expect(umask(before) == mask && mode(path) == wanted)
            close(socket.descriptor)
        }
        // Nobody gets through before somebody listens.
        #expect(throws: PosixError.self) { try UnixSocket.connect(path) }
    }

    @Test func onlyALeftoverIsReplacedAndOnlyOnesOwnIsRemoved() throws {
        let path = folder.path + "/s"
        let first = try UnixSocket.bind(path, mode: 0o600)
        listen(first.descriptor, 1)
        let error = #expect(throws: PosixError.self) { try UnixSocket.bind(path, mode: 0o600) }
        #expect(error?.code == EADDRINUSE)
        close(first.descriptor)
        let second = try UnixSocket.bind(path, mode: 0o600)
        defer { close(second.descriptor) }
        first.removeFile()
        #expect(mode(path) != nil)
        second.removeFile()
        #expect(mode(path) == nil)
        try writeText("precious", to: path)
        #expect(throws: PosixError.self) { try UnixSocket.bind(path, mode: 0o600) }
        #expect(readText(path) == "precious")
    }

    private func mode(_ path: String) -> mode_t? {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_mode & 0o777 : nil
    }

    @Test func aLockIsHeldUntilTheProcessEndsAndNamesItsHolder() throws {
        let path = folder.path + "/lock"
        // Python's lockf is the same kind of lock.
        let script =
            "import fcntl,sys,time; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); print('held',flush=True)"
        let log = folder.path + "/log"
        let descriptor = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        let holder = try ChildProcess(
            ["python3", "-c", script + "; time.sleep(600)", path], descriptors: [descriptor, descriptor, descriptor])
        close(descriptor)
        try eventually("the lock is held") { readText(log).contains("held") }
        let failure = #expect(throws: ProcessLock.Failure.self) { try ProcessLock(path) }
        #expect(failure == .held(by: holder.pid))
        holder.signal(SIGKILL)
        _ = try holder.wait()
        _ = try ProcessLock(path)
    }

    @Test func usersAreNumbersOrNamesOfTheFile() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nheddle-proxy:x:15001:15002::/nonexistent:/sbin/nologin\n"
        #expect(ProcessUser("heddle-proxy", passwd: passwd)?.user == 15001)
        #expect(ProcessUser("heddle-proxy", passwd: passwd)?.group == 15002)
        #expect(ProcessUser("7", passwd: passwd) == ProcessUser(name: "7", user: 7, group: 7))
        #expect(ProcessUser("7:8", passwd: passwd) == ProcessUser(name: "7:8", user: 7, group: 8))
        for text in ["", "nobody", "7:", ":8", "7:8:9", "-1", "broken"] {
            #expect(ProcessUser(text, passwd: passwd) == nil, "\(text)")
        }
    }

    @Test func theKernelsWordsAreRead() throws {
        let facts = ProcessFacts(
            status: """
                Name:\tx
                Uid:\t1000\t65534\t0\t0
                CapEff:\t0000000000000400
                CapBnd:\t000001ffffffffff
                NoNewPrivs:\t1
                Seccomp:\t2
                """)
        #expect(facts?.user == 65534 && facts?.effective == 0x400 && facts?.bounding == 0x1ff_ffff_ffff)
        #expect(facts?.hasNoNewPrivileges == true && facts?.filtersCalls == true)
        #expect(ProcessFacts(status: "") == nil)
        #expect(ProcessFacts(pid: getpid())?.user == geteuid())
    }
}
