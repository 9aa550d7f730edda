/// The program `heddle-proxy`: puts engine, control and telemetry together, and ends without dropping a request.
import Addressing
import AdminAPI
import AdminServer
import CLinux
import CertificateAuthority
import Glibc
import HandOverLink
import Options
import Posix
import Proxy
import RouteIR
import Signing
import Synchronization
import Telemetry

package enum ProxyProgram {
    package static let version = heddleVersion

    /// 0: ended as asked; 1: something is missing; 2: wrong usage.
    package static func main(arguments: [String]) async -> Never {
        exit(await run(arguments))
    }

    private static func run(_ arguments: [String]) async -> Int32 {
        if arguments.contains("--help") || arguments.contains("-h") { return tell(ProxyOptions.usage) }
        if arguments == ["--version"] { return tell("heddle-proxy \(version)\n") }
        do {
            let process = try ProxyProcess(try ProxyOptions(arguments))
            try await process.run()
            return 0
        } catch {
            _ = writeAll(Array("heddle-proxy: \(error)\n".utf8), to: STDERR_FILENO)
            return error is OptionError ? 2 : 1
        }
    }

    private static func tell(_ text: String) -> Int32 {
        _ = writeAll(Array(text.utf8), to: STDOUT_FILENO)
        return 0
    }
}

final class ProxyProcess: Sendable {
    /// What the main loop waits for.
    private final class News: Sendable {
        enum Event: Sendable {
            case configured
            case signal(UInt8)
        }
        let events: AsyncStream<Event>
        let tell: AsyncStream<Event>.Continuation
        let isConfigured: Atomic<Bool>
        let hasTriedToListen = Semaphore()

        init(isConfigured: Bool) {
            (events, tell) = AsyncStream.makeStream()
            self.isConfigured = Atomic(isConfigured)
        }
    }
    private let news: News
    private let options: ProxyOptions
    private let engine: ProxyEngine
    private let accessLog: AccessLog?
    private let spans: SpanExporter?
    private let control: HandOverClient
    private let certificates: CertificateKeeper
    private let pods: PodListeners
    private let loop = ServerLoop()
    private let signals: Int32
    /// Of the port of metrics.
    private let shedConnections = Atomic<UInt64>(0)

    init(_ options: ProxyOptions) throws {
        self.options = options
        prepareProcess()
        let numbers = [SIGTERM, SIGINT]
        signals = clinux_catch_signals(numbers, Int32(numbers.count))
        guard signals >= 0 else { throw ProxyError("cannot catch signals: \(String(cString: strerror(errno)))") }
        accessLog = try options.effectiveAccessLog.map { format throws(PosixError) in try AccessLog(format) }
        spans = try options.otlpEndpoint.map { endpoint throws(PosixError) in try SpanExporter(endpoint) }
        let log: @Sendable (String, String) -> Void = { level, message in
            guard ProxyOptions.Level(rawValue: level) ?? .info >= options.logLevel else { return }
            LogLine(level: level, message: message).write(options.logFormat)
        }
        if clinux_forbid_unused_calls() != 0 {
            log("warning", "no seccomp filter: \(String(cString: strerror(errno)))")
        }
        let file = options.stateFile.map(LastConfiguration.init)
        let saved = Self.lastSnapshot(file, log)
        let snapshot = saved ?? ProxySnapshot(node: ProxyNode(name: ""))
        var engineOptions = EngineOptions()
        engineOptions.threads = options.threads
        engineOptions.sampling = options.sampling
        engineOptions.tell = { log("warning", $0) }
        engineOptions.targets = TargetGuard(
            ports: options.nodePorts.union([options.listenPort, options.metricsAddress.port]))
        // Whom only this machine's loopback reaches leads nobody there who could not go himself.
        engineOptions.targets.allowsLoopback = options.listenAddress?.isLoopback == true
        engineOptions.memoryLimit = options.memoryLimit
        let pods = PodListeners(socket: PodSockets.path(beside: options.configSocket), log: log)
        self.pods = pods
        engineOptions.makeSocket = { pods.takeSocket(of: $0) }
        let claims = OwnSocketClaims { log("warning", $0) }
        // A socket of the pod's own shows the application itself as its client: only where there is nothing better.
        engineOptions.makeInnerSocket = { claims.makeSocket($0.family, for: $1) ?? pods.takeInnerSocket(of: $0) }
        engineOptions.connectsInside = { pods.connectsInside }
        engineOptions.leadsToRoot = { leadsToRoot($0, through: $1, to: $2) }
        let accessLog = accessLog
        let engine = ProxyEngine(options: engineOptions, snapshot: snapshot, logs: accessLog, spans: spans)
        self.engine = engine
        let news = News(isConfigured: saved != nil)
        self.news = news
        let certificates = CertificateKeeper(.init(adopt: { engine.adopt($0) }, log: log))
        self.certificates = certificates
        certificates.want(snapshot.identities)
        var hooks = HandOverClient.Hooks(
            adopt: { snapshot in
                certificates.want(snapshot.identities)
                engine.adopt(snapshot)
                if snapshot.mesh != nil { pods.start() }
                guard !news.isConfigured.exchange(true, ordering: .relaxed) else { return }
                // The agent hears that it is in force, and sends connections here, when they find a listener.
                news.tell.yield(.configured)
                news.hasTriedToListen.wait()
            },
            answer: { question in
                if question == "certificates" { return certificates.report }
                guard question.hasPrefix("logs") else { return engine.answer(question) }
                guard let accessLog else { return Array(#"{"error":"its access log is off (--access-log)"}"#.utf8) }
                return accessLog.answer(from: UInt64(question.dropFirst("logs:".count)) ?? 0)
            }, log: log)
        hooks.connected = { certificates.connected($0) }
        hooks.certified = { certificates.take($0) }
        hooks.claimSockets = { claims.adopt($0) }
        control = HandOverClient(
            socket: options.configSocket, version: ProxyProgram.version, snapshot: snapshot, file: file, hooks: hooks)
        self.log = log
        if snapshot.mesh != nil { pods.start() }
    }
    private let log: @Sendable (String, String) -> Void

    private static func lastSnapshot(
        _ file: LastConfiguration?, _ log: @Sendable (String, String) -> Void
    ) -> ProxySnapshot? {
        do throws(LastConfiguration.Failure) {
            if let snapshot = try file?.read() {
                log("info", "starting with configuration \(snapshot.generation) from disk")
                return snapshot
            }
        } catch {
            log("error", "\(error)")
        }
        return nil
    }

    func run() async throws {
        async let tunnels: Void = pods.serve(engine)
        do { try await serve() } catch {
            pods.stop()
            throw error
        }
        pods.stop()
        await tunnels
    }

    private func serve() async throws {
        startAdmin()
        let (signals, tell) = (signals, news.tell)
        try startThread { tell.yield(.signal(Self.nextSignal(signals))) }
        var events = news.events.makeAsyncIterator()
        var waiting: [SocketAddress]?
        if news.isConfigured.load(ordering: .relaxed) {
            waiting = await listen(options.listenAddresses)
        } else {
            log("info", "no configuration yet: port \(options.listenPort) opens with the agent's first")
        }
        try control.start()
        // Who shares the port with an older proxy is given a part of its connections with the first listener, and must
        // know what they dialled.
        while waiting == nil {
            switch await events.next() {
            case .configured:
                waiting = await listen(options.listenAddresses)
                news.hasTriedToListen.signal()
            case .signal(let signal): return await end(signal)
            case nil: return
            }
        }
        try await wait(for: waiting ?? [])
        guard engine.isListening else { throw ProxyError("there is no address to listen on; see --listen-address") }
        log(
            "info",
            "heddle-proxy \(ProxyProgram.version) listens on port \(options.listenPort), \(options.threads) loops")
        while let event = await events.next() {
            if case .signal(let signal) = event { return await end(signal) }
        }
    }

    /// A proxy that runs as another user shares no port with us: it is asked to go once we have the configuration.
    private func wait(for busy: [SocketAddress]) async throws {
        var busy = busy
        if !busy.isEmpty { log("warning", "waiting for whoever holds port \(options.listenPort)") }
        let latest = ContinuousClock.now + Self.patience
        while !busy.isEmpty {
            guard ContinuousClock.now < latest else {
                throw ProxyError("another program holds port \(options.listenPort); stop it or pass --listen-port")
            }
            try await Task.sleep(for: .milliseconds(5))
            busy = await listen(busy)
        }
    }

    /// For the predecessor's port to become free.
    private static let patience = Duration.seconds(20)

    /// Returns those that somebody else holds.
    private func listen(_ addresses: [SocketAddress]) async -> [SocketAddress] {
        var busy: [SocketAddress] = []
        for address in addresses {
            do {
                _ = try await engine.listen(address)
            } catch {
                if (error as? PosixError)?.code == EADDRINUSE {
                    busy.append(address)
                } else {
                    // A node without IPv6 is no reason to give up.
                    log("warning", "\(error)")
                }
            }
        }
        return busy
    }

    private static func nextSignal(_ descriptor: Int32) -> UInt8 {
        var byte: UInt8 = 0
        while read(descriptor, &byte, 1) < 0 && errno == EINTR {}
        return byte
    }

    /// Lets others take new connections and finishes what there is, within the time given for it.
    private func end(_ signal: UInt8) async {
        log("info", "stopping on signal \(signal): \(engine.connectionCount) connections may finish")
        control.stop()
        engine.drain()
        let deadline = ContinuousClock.now + options.drainTime
        while ContinuousClock.now < deadline, engine.connectionCount > 0 {
            try? await Task.sleep(for: .milliseconds(50))
        }
        await engine.shutdown()
        accessLog?.stop()
        spans?.stop()
    }

    private func startAdmin() {
        let engine = engine
        let (accessLog, spans) = (self.accessLog, self.spans)
        HTTPListener(
            .tcp(host: options.metricsAddress.address.description, port: options.metricsAddress.port), on: loop,
            report: { [log, options] problem in
                if let problem {
                    log("error", "\(problem); still trying")
                } else {
                    log("info", "metrics on \(options.metricsAddress)")
                }
            },
            shed: { [self] _ in shedConnections.add(1, ordering: .relaxed) },
            responder: { [self] request, reply in
                switch request.path {
                case "/metrics":
                    let snapshot = engine.snapshot
                    var text = prometheusText(
                        engine.stats, engine.series, flows: engine.flows, node: snapshot.node,
                        mesh: snapshot.mesh, generation: snapshot.generation)
                    for (name, help, value) in [
                        ("log_lines_lost", "Access log lines that could not be written.", accessLog?.lostLines ?? 0),
                        ("spans_lost", "Spans that no collector took in time.", spans?.lostSpans ?? 0),
                        ("messages_lost", "Lines of its own log that could not be written.", LogLine.lost),
                        (
                            "admin_connections_shed", "Connections to this port closed before their client was done.",
                            shedConnections.load(ordering: .relaxed)
                        ),
                    ] {
                        text += metricHead("\(name)_total", "counter", help)
                        text += "heddle_proxy_\(name)_total \(value)\n"
                    }
                    text += certificates.metrics
                    reply(HTTPResponse(contentType: MetricRegistry.contentType, body: Array(text.utf8)))
                case "/healthz": reply(.text("ok\n"))
                case "/config", "/upstreams", "/stats":
                    let body = engine.answer(String(request.path.dropFirst()))
                    reply(HTTPResponse(contentType: "application/json", body: body))
                default: reply(.notFound)
                }
            }
        ).start()
    }
}

/// Why it cannot go on: a sentence for whoever started it.
struct ProxyError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// What comes before the values of a metric of this process.
func metricHead(_ name: String, _ type: String, _ help: String) -> String {
    "# HELP heddle_proxy_\(name) \(help)\n# TYPE heddle_proxy_\(name) \(type)\n"
}
