/// Keeps one kind of object up to date: does what its `WatchMachine` says and tells the mailbox what came of it.
import AsyncHTTPClient
import Cluster
import NIOCore
import NIOHTTP1

struct WatchLoop {
    let resource: WatchedResource
    let transport: Transport
    let mailbox: EventMailbox
    let board: StatusBoard
    let configuration: KubernetesSource.Configuration
    let recorder: EventRecorder
    var machine: WatchMachine
    var table: ObjectTable
    var decoder: ObjectDecoder
    /// Up to which everything was told.
    var toldVersion: String?
    /// What is wrong with single objects.
    var refusals = ObjectProblems()
    /// What was told last to be wrong, except with single objects.
    private var reported = Trouble()
    private struct Trouble: Equatable {
        var problem: WatchMachine.Problem?
        var isDoubted = false
        var kept: Set<ObjectName> = []
    }
    private var random = SystemRandomNumberGenerator()
    private let start = ContinuousClock.now
    var now: Duration { ContinuousClock.now - start }

    init(
        _ resource: WatchedResource, transport: Transport, mailbox: EventMailbox, board: StatusBoard,
        configuration: KubernetesSource.Configuration, recorder: EventRecorder
    ) {
        self.resource = resource
        self.transport = transport
        self.mailbox = mailbox
        self.board = board
        self.configuration = configuration
        self.recorder = recorder
        machine = WatchMachine(resource: resource, backoff: configuration.timing.backoff)
        table = ObjectTable(resource)
        decoder = configuration.decoder
    }

    /// Until the task is cancelled.
    mutating func run() async {
        var requests = 0
        while !Task.isCancelled {
            switch machine.next() {
            case .wait(let pause):
                do { try await Task.sleep(for: pause) } catch { return }
            case .send(let request):
                requests += 1
                let count = requests
                board.update(resource) {
                    $0.reconnects = count - 1
                    if request.isList { $0.state = .listing }
                }
                let end = await send(request)
                guard !Task.isCancelled else { return }
                machine.ended(end, now: now, using: &random)
                await publish(after: end)
            }
        }
    }

    private mutating func send(_ request: WatchMachine.Request) async -> WatchMachine.End {
        if request.beginsReplacing {
            table.beginReplacing()
            refusals.removeAll()
            // With it go the texts it remembers of objects long gone.
            decoder = configuration.decoder
        }
        do {
            let response = try await transport.get(resource.path, query: query(request))
            guard response.status == .ok else { return .refused(await APIStatus(of: response)) }
            machine.accepted(now: now)
            showProgress()
            if case .page = request { return try await readPage(response.body) }
            return try await readStream(response.body)
        } catch let error as HTTPClientError where error == .readTimeout || error == .deadlineExceeded {
            return .silent
        } catch {
            return .failed(transport.sentence(for: error))
        }
    }

    private mutating func query(_ request: WatchMachine.Request) -> [(name: String, value: String)] {
        var query: [(name: String, value: String)] = []
        if !resource.labelSelector.isEmpty { query.append(("labelSelector", resource.labelSelector)) }
        if !resource.fieldSelector.isEmpty { query.append(("fieldSelector", resource.fieldSelector)) }
        switch request {
        case .page(let token):
            query.append(("limit", "500"))
            if let token { query.append(("continue", token)) }
            return query
        case .streamedList:
            query += [("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")]
        case .watch(let version): query.append(("resourceVersion", version))
        }
        // All nodes began together; their watches should not end together.
        let seconds = Int.random(in: 300...600, using: &random)
        return query + [("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", "\(seconds)")]
    }

    // MARK: What came of it

    private mutating func publish(after end: WatchMachine.End) async {
        if machine.isAbsent || machine.isForbidden && resource.isExcusable {
            await mailbox.send([], completing: resource.completes, areOtherPodsComplete: resource.isElsewhere)
        }
        let (machine, isGood) = (machine, end == .closed)
        board.update(resource) { status in
            status.state = machine.isAbsent ? .off : machine.problem == nil ? status.state : .waiting
            status.message = machine.problem?.message
            if !isGood { status.errors += 1 }
        }
        report()
    }

    /// The server said something: says how far we are, and what is wrong if that has changed.
    mutating func showProgress() {
        let (machine, objects, refused) = (machine, table.names.count, refusals.refused.count)
        board.heard(resource)
        board.update(resource) { status in
            if machine.isWatching { status.state = .watching }
            status.message = machine.problem?.message
            status.resourceVersion = machine.resourceVersion
            status.objects = objects
            status.refusedObjects = refused
        }
        let trouble = Trouble(problem: machine.problem, isDoubted: table.isDoubted, kept: table.kept)
        if refusals.takeChange() || trouble != reported { report() }
    }

    /// Tells what is wrong now.
    private mutating func report() {
        reported = Trouble(problem: machine.problem, isDoubted: table.isDoubted, kept: table.kept)
        var problems: [SourceProblem] = []
        let location = configuration.access.serverName + resource.path
        if let problem = machine.problem, !problem.isHarmless {
            problems.append(SourceProblem(location: location, message: problem.message))
        }
        if table.isDoubted {
            problems.append(
                SourceProblem(
                    location: location,
                    message: "the API server says that all \(table.names.count) \(resource.plural) are gone; they stay "
                        + "in force until a second list, \(configuration.timing.doubt) later, says the same"))
        } else if !table.kept.isEmpty {
            problems.append(
                SourceProblem(
                    location: location,
                    message: "the API server says that there are no \(resource.plural) at all; the way to the API "
                        + "server itself (default/kubernetes) stays in force all the same"))
        }
        mailbox.report(problems + refusals.problems(at: location, kind: resource.kind), for: resource.title)
    }
}
