/// The source on a real directory: what is there at the start, and every way in which files come, change and go.
import Addressing
import Cluster
import Glibc
import Manifests
import TestSupport
import Testing

/// A source, and the state that follows from what it told so far.
private struct Listener: ~Copyable {
    struct State {
        var ports: [String: UInt16] = [:]
        var slices: Set<String> = []
        var problems: [SourceProblem] = []
        var events = 0
        var deletes = 0
        var isSynced = false
    }
    private let source: ManifestsSource
    private var events: AsyncStream<SourceEvent>.Iterator
    private(set) var now = State()

    init(_ directory: String, maximumFileBytes: Int = 1 << 20) throws {
        source = try ManifestsSource(directory: directory, maximumFileBytes: maximumFileBytes)
        events = source.events.makeAsyncIterator()
    }
    deinit { source.stop() }

    /// Listens until the state is as expected; a test that waits in vain runs into its time limit.
    mutating func eventually(_ what: String, _ condition: (State) -> Bool) async throws {
        while !condition(now) {
            guard let event = await events.next(isolation: #isolation) else {
                throw TestFailure("\(what): not so when the source ended")
            }
            take(event)
        }
    }
    /// Stops the source and hears it out.
    mutating func finish() async -> State {
        source.stop()
        while let event = await events.next(isolation: #isolation) { take(event) }
        return now
    }

    private mutating func take(_ event: SourceEvent) {
        now.events += 1
        switch event {
        case .synced: now.isSynced = true
        case .podsKnown, .reached: Issue.record("pods come with everything else, and files have no versions")
        case .problems(let problems): now.problems = problems
        case .changes(let changes):
            for change in changes {
                switch change {
                case .upsert(.service(let service)): now.ports[service.name.name] = service.ports.first?.port
                case .upsert(.endpointSlice(let slice)): now.slices.insert(slice.name.name)
                case .upsert: break
                case .delete(let id):
                    now.deletes += 1
                    now.ports[id.name.name] = nil
                    now.slices.remove(id.name.name)
                }
            }
        }
    }
}

private func service(_ name: String, _ port: Int) -> String {
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: \(name)}\n"
        + "spec: {clusterIP: 10.0.0.1, ports: [{port: \(port)}]}\n"
}
private func writeFile(_ path: String, _ text: String) throws {
    try writeInPlace(text, to: path, flags: O_WRONLY | O_CREAT | O_TRUNC)
}

@Suite(.timeLimit(.minutes(1))) struct ManifestsSourceTests {
    @Test func startsWithWhatIsThere() async throws {
        let directory = try TemporaryDirectory()
        try writeFile(directory.path + "/a.yaml", service("a", 1))
        try writeFile(directory.path + "/b.yml", service("b", 2))
        try writeFile(
            directory.path + "/c.json",
            #"{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"},"spec":{"ports":[{"port":3}]}}"#)
        try writeFile(directory.path + "/.hidden.yaml", service("h", 4))
        try writeFile(directory.path + "/notes.txt", service("t", 5))
        var listener = try Listener(directory.path)
        try await listener.eventually("synced") { $0.isSynced }
        #expect(listener.now.ports == ["a": 1, "b": 2, "c": 3])
        #expect(listener.now.events == 3)
    }
    @Test func anEmptyDirectoryIsInSync() async throws {
        let directory = try TemporaryDirectory()
        var listener = try Listener(directory.path)
        try await listener.eventually("synced") { $0.isSynced }
        #expect(listener.now.problems.isEmpty)
    }

    @Test func filesAreWrittenCreatedRenamedAndRemoved() async throws {
        let directory = try TemporaryDirectory()
        let file = directory.path + "/a.yaml"
        try writeFile(file, service("a", 1))
        var listener = try Listener(directory.path)
        try await listener.eventually("synced") { $0.isSynced }
        try writeFile(file, service("a", 2))
        try await listener.eventually("written in place") { $0.ports == ["a": 2] }
        try writeText(service("a", 3), to: file)
        try await listener.eventually("replaced by rename") { $0.ports == ["a": 3] }
        try writeFile(directory.path + "/b.yaml", service("b", 4))
        try await listener.eventually("created") { $0.ports == ["a": 3, "b": 4] }
        #expect(rename(file, directory.path + "/z.yaml") == 0)
        try writeFile(directory.path + "/b.yaml", service("b", 5))
        try await listener.eventually("after a rename") { $0.ports == ["a": 3, "b": 5] }
        #expect(listener.now.deletes == 0, "a renamed file's objects were never gone")
        #expect(unlink(directory.path + "/z.yaml") == 0)
        try await listener.eventually("removed") { $0.ports == ["b": 5] }
        #expect(link(directory.path + "/b.yaml", directory.path + "/a.yaml") == 0)
        try await listener.eventually("a second name for a file") { $0.problems.count == 1 }
        #expect(rename(directory.path + "/b.yaml", directory.path + "/b.txt") == 0)
        try await listener.eventually("renamed to no manifest") { $0.problems.isEmpty }
        #expect(listener.now.ports == ["b": 5])
    }

    /// Some editors rename the old version away and write the new one under the old name.
    @Test func editorsDoNotMakeObjectsBlink() async throws {
        let directory = try TemporaryDirectory()
        let file = directory.path + "/a.yaml"
        try writeFile(file, service("a", 1))
        var listener = try Listener(directory.path)
        try await listener.eventually("synced") { $0.isSynced }
        for port in 2...20 {
            #expect(rename(file, file + "~") == 0)
            try writeFile(file, service("a", port))
            try await listener.eventually("version \(port)") { $0.ports == ["a": UInt16(port)] }
        }
        #expect(await listener.finish().deletes == 0)
    }
    /// A file is read when its writer closes it, never half written.
    @Test func halfWrittenFilesAreNotRead() async throws {
        let directory = try TemporaryDirectory()
        let file = directory.path + "/a.yaml"
        let marker = directory.path + "/marker.yaml"
        try writeFile(file, service("a", 1) + service("b", 2))
        var listener = try Listener(directory.path)
        try await listener.eventually("synced") { $0.isSynced }
        let descriptor = open(file, O_WRONLY | O_TRUNC)
        #expect(descriptor >= 0)
        for (number, line) in (service("a", 3) + service("b", 4)).split(separator: "\n").enumerated() {
            let bytes = Array((line + "\n").utf8)
            #expect(write(descriptor, bytes, bytes.count) == bytes.count)
            try writeFile(marker, service("m", number + 1))
            try await listener.eventually("the marker") { $0.ports["m"] == UInt16(number + 1) }
            #expect(listener.now.ports["a"] == 1 && listener.now.ports["b"] == 2)
        }
        close(descriptor)
        try await listener.eventually("complete") { $0.ports["a"] == 3 && $0.ports["b"] == 4 }
        #expect(await listener.finish().deletes == 0)
        #expect(listener.now.problems.isEmpty)
    }

    @Test func configMapMountsSwapALink() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path
        func version(_ number: Int, _ files: [String: String]) throws {
            #expect(mkdir("\(path)/..v\(number)", 0o755) == 0)
            for (name, text) in files { try writeFile("\(path)/..v\(number)/\(name)", text) }
            #expect(symlink("..v\(number)", "\(path)/..data_tmp") == 0)
            #expect(rename("\(path)/..data_tmp", "\(path)/..data") == 0)
        }
        try version(1, ["a.yaml": service("a", 1), "b.yaml": service("b", 1)])
        for name in ["a.yaml", "b.yaml"] { #expect(symlink("..data/\(name)", "\(path)/\(name)") == 0) }
        var listener = try Listener(path)
        try await listener.eventually("synced") { $0.isSynced }
        #expect(listener.now.ports == ["a": 1, "b": 1])
        try version(2, ["a.yaml": service("a", 2), "b.yaml": service("b", 2)])
        removeTree("\(path)/..v1")
        try await listener.eventually("the second version") { $0.ports == ["a": 2, "b": 2] }
        // A key is removed, another added: the links follow the swap.
        try version(3, ["b.yaml": service("b", 3), "c.yaml": service("c", 3)])
        #expect(symlink("..data/c.yaml", "\(path)/c.yaml") == 0)
        #expect(unlink("\(path)/a.yaml") == 0)
        removeTree("\(path)/..v2")
        try await listener.eventually("the third version") { $0.ports == ["b": 3, "c": 3] }
        try await listener.eventually("no problems") { $0.problems.isEmpty }
        #expect(await listener.finish().deletes == 1)
    }

    @Test func theDirectoryItselfMayComeGoAndBeReplaced() async throws {
        let parent = try TemporaryDirectory()
        let path = parent.path + "/deep/manifests"
        var listener = try Listener(path)
        try await listener.eventually("a missing directory is a problem") { $0.problems.count == 1 }
        #expect(!listener.now.isSynced, "an absent directory must not look like an empty one")
        #expect(mkdir(parent.path + "/deep", 0o755) == 0)
        #expect(mkdir(path, 0o755) == 0)
        try writeFile(path + "/a.yaml", service("a", 1))
        try await listener.eventually("created") { $0.isSynced && $0.ports == ["a": 1] }
        #expect(rename(path, parent.path + "/deep/old") == 0)
        try await listener.eventually("renamed away") { $0.problems.count == 1 }
        #expect(listener.now.ports == ["a": 1], "what was read last stays in force")
        try writeFile(parent.path + "/deep/old/a.yaml", service("a", 2))
        #expect(rename(parent.path + "/deep/old", path) == 0)
        try await listener.eventually("back") { $0.ports == ["a": 2] && $0.problems.isEmpty }
        removeTree(path)
        try await listener.eventually("removed") { $0.problems.count == 1 }
        #expect(mkdir(path, 0o755) == 0)
        try writeFile(path + "/b.yaml", service("b", 3))
        try await listener.eventually("created again") { $0.ports == ["b": 3] && $0.problems.isEmpty }
    }
    @Test func theDirectoryMayBeALink() async throws {
        let parent = try TemporaryDirectory()
        for version in 1...2 {
            #expect(mkdir("\(parent.path)/v\(version)", 0o755) == 0)
            try writeFile("\(parent.path)/v\(version)/a.yaml", service("a", version))
        }
        #expect(symlink("v1", parent.path + "/current") == 0)
        var listener = try Listener(parent.path + "/current/")
        try await listener.eventually("first") { $0.ports == ["a": 1] }
        #expect(symlink("v2", parent.path + "/next") == 0)
        #expect(rename(parent.path + "/next", parent.path + "/current") == 0)
        try await listener.eventually("swapped") { $0.ports == ["a": 2] }
        try writeFile("\(parent.path)/v2/a.yaml", service("a", 3))
        try await listener.eventually("written behind the link") { $0.ports == ["a": 3] }
        #expect(await listener.finish().deletes == 0)
    }

    @Test func problemsComeAndGo() async throws {
        let directory = try TemporaryDirectory()
        let file = directory.path + "/a.yaml"
        try writeFile(file, service("a", 1) + service("b", 1))
        var listener = try Listener(directory.path)
        try await listener.eventually("synced") { $0.isSynced }
        try writeFile(file, service("a", 65536) + service("b", 2))
        try await listener.eventually("b changed") {
            $0.ports == ["a": 1, "b": 2] && $0.problems.count == 1
        }
        let problem = listener.now.problems.first
        #expect(problem?.location == "a.yaml:5")
        #expect(problem?.object == "Service default/a" && problem?.field == "spec.ports[0].port")
        try writeFile(file, "not: [valid")
        try await listener.eventually("a syntax error") {
            $0.problems.first?.message.contains("not valid YAML") == true
        }
        #expect(listener.now.ports == ["a": 1, "b": 2])
        try writeFile(file, service("b", 3))
        try await listener.eventually("mended") { $0.ports == ["b": 3] && $0.problems.isEmpty }
    }

    @Test func badFiles() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path
        try writeFile(path + "/good.yaml", service("a", 1))
        #expect(mkfifo(path + "/pipe.yaml", 0o644) == 0)
        #expect(mkdir(path + "/dir.yaml", 0o755) == 0)
        #expect(symlink("nowhere", path + "/dangling.yaml") == 0)
        #expect(symlink("loop.yaml", path + "/loop.yaml") == 0)
        #expect(symlink("/dev/zero", path + "/device.yaml") == 0)
        let descriptor = open(path + "/huge.yaml", O_WRONLY | O_CREAT, 0o644)
        #expect(ftruncate(descriptor, 100 << 20) == 0)
        close(descriptor)
        var listener = try Listener(path)
        try await listener.eventually("synced") { $0.isSynced }
        #expect(listener.now.ports == ["a": 1])
        #expect(
            listener.now.problems.map(\.location) == [
                "dangling.yaml", "device.yaml", "dir.yaml", "huge.yaml", "loop.yaml", "pipe.yaml",
            ])
        #expect(listener.now.problems.first { $0.location == "huge.yaml" }?.message.contains("divide it") == true)
        try writeFile(path + "/good.yaml", service("a", 2))
        try await listener.eventually("the good file still works") { $0.ports == ["a": 2] }
        #expect(truncate(path + "/huge.yaml", 0) == 0)
        try writeFile(path + "/huge.yaml", service("h", 3))
        for name in ["pipe.yaml", "dangling.yaml", "loop.yaml", "device.yaml"] {
            #expect(unlink("\(path)/\(name)") == 0)
        }
        #expect(rmdir(path + "/dir.yaml") == 0)
        try await listener.eventually("all mended") { $0.problems.isEmpty && $0.ports["h"] == 3 }
    }
    @Test func aNameThatIsNotUTF8IsNamed() async throws {
        let directory = try TemporaryDirectory()
        let strange = { (name: String) in Array((directory.path + "/" + name).utf8CString) + [] }
        func make(_ name: [CChar]) {
            let descriptor = open(name, O_WRONLY | O_CREAT, 0o644)
            #expect(descriptor >= 0)
            close(descriptor)
        }
        /// `caf?.yaml` with a byte of Latin-1 for the question mark.
        func latin(_ name: String) -> [CChar] {
            strange(name).map { $0 == CChar(UInt8(ascii: "?")) ? CChar(bitPattern: 0xe9) : $0 }
        }
        make(latin("caf?.yaml"))
        try writeFile(directory.path + "/a.yaml", service("a", 1))
        var listener = try Listener(directory.path)
        try await listener.eventually("synced") { $0.isSynced }
        #expect(listener.now.problems.map(\.location) == ["caf\\xe9.yaml"])
        make(latin("th?.yaml"))
        make(latin("no-manifest-?"))
        try await listener.eventually("another") { $0.problems.map(\.location) == ["caf\\xe9.yaml", "th\\xe9.yaml"] }
        unlink(latin("caf?.yaml"))
        unlink(latin("th?.yaml"))
        try await listener.eventually("gone") { $0.problems.isEmpty }
        #expect(listener.now.ports == ["a": 1])
    }
    @Test(.enabled(if: geteuid() == 0, "only root may give a file away")) func unreadableFileOfAnotherUser()
        async throws
    {
        let directory = try TemporaryDirectory()
        let file = directory.path + "/a.yaml"
        try writeFile(file, service("a", 1))
        var listener = try Listener(directory.path)
        try await listener.eventually("synced") { $0.isSynced }
        // Root reads everything, so this only shows that a change of mode is noticed and harms nothing.
        #expect(chmod(file, 0) == 0)
        try writeFile(directory.path + "/b.yaml", service("b", 2))
        try await listener.eventually("still there") { $0.ports == ["a": 1, "b": 2] }
        #expect(await listener.finish().deletes == 0)
    }

    /// tar and install set times and modes after closing a new file.
    @Test func attributesMaySettleAfterWriting() async throws {
        let directory = try TemporaryDirectory()
        var listener = try Listener(directory.path)
        try await listener.eventually("synced") { $0.isSynced }
        for number in 1...50 {
            let file = "\(directory.path)/f\(number).yaml"
            try writeFile(file, service("s\(number)", number))
            #expect(chmod(file, 0o600) == 0)
        }
        try await listener.eventually("all files") { $0.ports.count == 50 }
    }

    @Test func endpointsAreDerivedFromPods() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path
        try writeFile(
            path + "/all.yaml",
            """
            apiVersion: v1
            kind: Service
            metadata: {name: web}
            spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{port: 80}]}
            ---
            apiVersion: v1
            kind: Pod
            metadata: {name: web-1, labels: {app: web}}
            status: {podIP: 10.1.0.1}
            """)
        var listener = try Listener(path)
        try await listener.eventually("derived") { $0.slices == ["web-heddle-ipv4"] }
        try writeFile(
            path + "/slice.yaml",
            """
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata: {name: real, labels: {kubernetes.io/service-name: web}}
            addressType: IPv4
            ports: [{port: 80}]
            endpoints: [{addresses: [10.1.0.2]}]
            """)
        try await listener.eventually("replaced by the real one") { $0.slices == ["real"] }
        #expect(unlink(path + "/slice.yaml") == 0)
        try await listener.eventually("derived again") { $0.slices == ["web-heddle-ipv4"] }
    }

    @Test func manyFilesAndQuickEdits() async throws {
        let directory = try TemporaryDirectory()
        var expected: [String: UInt16] = [:]
        for number in 0..<300 {
            try writeFile("\(directory.path)/f\(number).yaml", service("s\(number)", 1))
            expected["s\(number)"] = 1
        }
        var generator = SeededGenerator()
        var listener = try Listener(directory.path)
        for step in 2..<600 {
            let number = Int.random(in: 0..<300, using: &generator)
            let file = "\(directory.path)/f\(number).yaml"
            switch Int.random(in: 0..<4, using: &generator) {
            case 0:
                unlink(file)
                expected["s\(number)"] = nil
            case 1:
                try writeText(service("s\(number)", step), to: file)
                expected["s\(number)"] = UInt16(step)
            default:
                try writeFile(file, service("s\(number)", step))
                expected["s\(number)"] = UInt16(step)
            }
        }
        try await listener.eventually("all edits, seed \(generator.seed)") { $0.ports == expected }
        #expect(listener.now.problems.isEmpty)
    }

    @Test func stoppingTwiceIsHarmless() throws {
        let directory = try TemporaryDirectory()
        let source = try ManifestsSource(directory: directory.path)
        source.stop()
        source.stop()
    }
}
