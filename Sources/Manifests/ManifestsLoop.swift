/// The work of the manifests source's thread: which files to read when, and what follows from them.
import Cluster
import Glibc
import YAML

struct ManifestsLoop: ~Copyable {
    private let directory: ManifestDirectory
    private var watch: DirectoryWatch
    /// Readable or closed at its other end: stop.
    private let wake: Int32
    private let continuation: AsyncStream<SourceEvent>.Continuation

    private var scan = ManifestRescan()
    private var decoder: ObjectDecoder
    private var index = ManifestIndex()
    private var podEndpoints = PodEndpoints()
    private var signatures: [String: ManifestDirectory.Signature] = [:]
    /// Files that are symbolic links: what they lead to can change without an event of their own.
    private var links: Set<String> = []

    /// Files to read.
    private var dirty: Set<String> = []
    /// Files somebody is writing: what they hold now is no version of theirs. Reading waits for the writer to close
    /// them.
    private var writing: Set<String> = []
    /// Files renamed out of sight, and when they count as gone.
    private var renamedAway: [String: Int] = [:]
    private var directoryProblem: SourceProblem?
    /// The directory is read, but not watched.
    private var watchProblem: SourceProblem?
    /// Names that are not UTF-8.
    private var unreadableNames: [String] = []
    private var lastProblems: [SourceProblem]?
    private var hasSynced = false

    /// How long a file may be gone from sight after a rename: editors rename the old version away before writing the
    /// new.
    private static let renameGraceMilliseconds = 100
    private static let rescanMilliseconds = 30_000
    /// Where the kernel watches nothing for us.
    private static let pollMilliseconds = 3000

    init(
        directory: ManifestDirectory, watch: consuming DirectoryWatch, wake: Int32,
        continuation: AsyncStream<SourceEvent>.Continuation, keepsPodIdentities: Bool
    ) {
        self.directory = directory
        self.watch = watch
        self.wake = wake
        self.continuation = continuation
        var options = ObjectDecoder.Options()
        options.defaultNamespace = "default"
        options.absentPortNameIsEmpty = true
        options.slicesNeedService = true
        options.keepsPodIdentities = keepsPodIdentities
        decoder = ObjectDecoder(options: options)
    }
    deinit { close(wake) }

    /// Returns when told to stop.
    mutating func run() {
        attach()
        deliver()
        var lastScan = now
        while true {
            let isHeard = watch.hears && watchProblem == nil
            let nextRescan = lastScan + (isHeard ? Self.rescanMilliseconds : Self.pollMilliseconds)
            let next = min(nextRescan, renamedAway.values.min() ?? nextRescan)
            let pause = dirty.isEmpty ? max(0, next - now) : 0
            switch wait(milliseconds: Int32(clamping: pause)) {
            case .stop:
                continuation.finish()
                return
            case .events: handleEvents()
            case .timeout: break
            }
            markVanished()
            if now >= nextRescan {
                rescan(everything: !isHeard)
                lastScan = now
            }
            deliver()
        }
    }

    private var now: Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }

    private var isToldToStop: Bool {
        var descriptor = pollfd(fd: wake, events: Int16(POLLIN), revents: 0)
        return poll(&descriptor, 1, 0) > 0
    }

    private enum Wakeup {
        case stop
        case events
        case timeout
    }
    private func wait(milliseconds: Int32) -> Wakeup {
        var descriptors = [
            pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
            pollfd(fd: watch.descriptor, events: Int16(POLLIN), revents: 0),
        ]
        while poll(&descriptors, nfds_t(descriptors.count), milliseconds) < 0 {
            guard errno == EINTR else { return .stop }
        }
        if descriptors[0].revents != 0 { return .stop }
        return descriptors[1].revents != 0 ? .events : .timeout
    }

    // MARK: Noticing

    private mutating func handleEvents() {
        var renames: [UInt32: String] = [:]
        var directoryChanged = false
        var hasUnreadableNames = false
        for event in watch.drain() {
            switch event {
            case .written(let name), .removed(let name): mark(name)
            case .writing(let name): expectWriter(of: name)
            case .created(let name):
                if directory.isNewRegularFile(name) { expectWriter(of: name) } else { mark(name) }
            case .attributesChanged(let name): if !writing.contains(name) { mark(name) }
            case .renamedFrom(let name, let number):
                renames[number] = name
                writing.remove(name)
                dirty.remove(name)
                if ManifestDirectory.isManifest(name) { renamedAway[name] = now + Self.renameGraceMilliseconds }
            case .renamedTo(let name, let number):
                mark(name)
                // Objects that moved from one manifest to another move at once.
                if let old = renames[number], ManifestDirectory.isManifest(name) { mark(old) }
            case .directoryChanged: directoryChanged = true
            case .unreadableName: hasUnreadableNames = true
            }
        }
        if hasUnreadableNames { unreadableNames = directory.list()?.unreadable ?? [] }
        if directoryChanged { attach() }
    }

    private mutating func expectWriter(of name: String) {
        dirty.remove(name)
        renamedAway[name] = nil
        if ManifestDirectory.isManifest(name) { writing.insert(name) }
    }

    /// Files renamed away long enough ago are gone.
    private mutating func markVanished() {
        guard !renamedAway.isEmpty else { return }
        let now = now
        for (name, deadline) in renamedAway where deadline <= now { mark(name) }
    }

    private mutating func mark(_ name: String) {
        writing.remove(name)
        renamedAway[name] = nil
        if ManifestDirectory.isManifest(name) {
            dirty.insert(name)
        } else if directory.isSymbolicLink(name) {
            // ConfigMap mounts swap the link `..data` that all their files lead through.
            markChanged(links)
        }
    }
    /// Marks those whose file is another one than was read.
    private mutating func markChanged(_ names: some Sequence<String>) {
        for name in names {
            guard let status = directory.status(name), status.signature == signatures[name] else {
                dirty.insert(name)
                continue
            }
        }
    }

    /// Begins to watch whatever directory is at the path now and compares all of it with what is known.
    private mutating func attach() {
        watchProblem = nil
        var error: Int32 = 0
        switch watch.attach() {
        case .watched: break
        case .unwatched(let why):
            watchProblem = SourceProblem(
                location: directory.path,
                message: "changes are noticed late, because the directory is read every "
                    + "\(Self.pollMilliseconds / 1000) s and not watched; \(why)")
        case .unreadable(let code): error = code
        }
        guard error == 0, let (names, unreadable) = directory.list() else {
            let reason = message(error == 0 ? errno : error)
            directoryProblem = SourceProblem(
                location: directory.path,
                message: "the directory cannot be read: \(reason); until it can, what was read last stays in force")
            return
        }
        directoryProblem = nil
        unreadableNames = unreadable
        writing = []
        renamedAway = [:]
        markChanged(Set(names).union(index.fileNames))
    }

    /// Finds what inotify did not tell.
    private mutating func rescan(everything: Bool) {
        if watch.wasReplaced() || directoryProblem != nil { return attach() }
        let found = scan.look(
            at: directory, known: index.fileNames, links: links, read: signatures, everything: everything,
            now: time(nil))
        guard let found else { return attach() }
        unreadableNames = found.unreadableNames ?? unreadableNames
        for name in found.changed {
            writing.remove(name)
            dirty.insert(name)
        }
    }

    // MARK: Reading and telling

    private mutating func deliver() {
        readDirtyFiles()
        var changes = index.commit()
        changes += podEndpoints.apply(changes)
        if !changes.isEmpty { continuation.yield(.changes(changes)) }
        // What was read of a start that is cut short is not everything.
        guard !isToldToStop else { return }
        let names = unreadableNames.map {
            SourceProblem(location: $0, message: "the file's name is not UTF-8, and it is not read; rename it")
        }
        let problems = [directoryProblem, watchProblem].compactMap(\.self) + names + index.problems
        if problems != lastProblems { continuation.yield(.problems(problems)) }
        lastProblems = problems
        if !hasSynced, directoryProblem == nil {
            hasSynced = true
            continuation.yield(.synced)
        }
    }

    private mutating func readDirtyFiles() {
        guard directoryProblem == nil else { return dirty.removeAll() }
        let names = dirty.subtracting(writing).subtracting(renamedAway.keys).sorted()
        dirty = []
        var readings: [(name: String, file: ManifestFile?, signature: ManifestDirectory.Signature?)] = []
        readings.reserveCapacity(names.count)
        for name in names {
            if isToldToStop { return }
            switch directory.read(name) {
            case .bytes(let bytes, let signature):
                let limits = YAMLLimits()
                readings.append(
                    (name, ManifestFile(name: name, bytes: bytes, decoder: &decoder, limits: limits), signature))
            case .missing: readings.append((name, nil, nil))
            case .unreadable(let message):
                let status = directory.status(name)
                readings.append((name, ManifestFile(unreadable: name, message: message), status?.signature))
            }
        }
        // Whoever began to write a file while it was read makes that reading worthless; its events tell.
        if !names.isEmpty { handleEvents() }
        for reading in readings where !writing.contains(reading.name) && renamedAway[reading.name] == nil {
            index.update(reading.name, reading.file)
            signatures[reading.name] = reading.signature
            if reading.file != nil, directory.isSymbolicLink(reading.name) {
                links.insert(reading.name)
            } else {
                links.remove(reading.name)
            }
        }
    }
}
