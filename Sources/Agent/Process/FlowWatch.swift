/// Looks at live traffic while somebody asks for it: `agentctl observe`, `agentctl top`, or the metrics of services. It
/// begins with the first question and ends some seconds after the last one.
import AdminServer
import DataplaneIR
import Glibc
import Posix
import Observation

actor FlowWatch {
    /// Whoever asks asks again within this time.
    static let patience = Duration.seconds(10)
    /// Events kept for those who ask.
    static let capacity = 20_000
    private static let pause = Duration.milliseconds(50)

    enum Message: Sendable {
        /// Events from that number on, nil: from now on; at most `rate` in a second.
        case events(from: UInt64?, rate: UInt32, reply: @Sendable (Result<FlowEvents, DataplaneError>) -> Void)
        case traffic(reply: @Sendable (Result<TrafficReport, DataplaneError>) -> Void)
        case tick
    }

    private let thread: KernelThread
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private nonisolated let messages: AsyncStream<Message>
    private nonisolated let mailbox: AsyncStream<Message>.Continuation
    private let timers: ServerLoop
    private let open: @Sendable () throws(DataplaneError) -> [any FlowTracer]

    private var tracers: [any FlowTracer] = []
    private var kept: ArraySlice<FlowEvent> = []
    /// The number of the next event; the oldest that is kept has `next - kept.count`.
    private var next: UInt64 = 1
    private var rate: UInt32 = 0
    private var eventsAskedAt: ContinuousClock.Instant?
    private var askedAt = ContinuousClock.now
    private var maintainedAt = ContinuousClock.now

    /// `open` is called on this actor's thread.
    init(
        timers: ServerLoop, open: @escaping @Sendable () throws(DataplaneError) -> [any FlowTracer]
    ) throws(PosixError) {
        thread = try KernelThread(name: "heddle-flows")
        (messages, mailbox) = AsyncStream.makeStream()
        self.timers = timers
        self.open = open
    }

    nonisolated func send(_ message: Message) { mailbox.yield(message) }

    /// Works until the task is cancelled.
    func run() async {
        for await message in messages {
            switch message {
            case .events(let from, let rate, let reply):
                reply(Result { () throws(DataplaneError) in try events(from: from, rate: rate) })
            case .traffic(let reply): reply(Result { () throws(DataplaneError) in try traffic() })
            case .tick: tick()
            }
        }
    }

    private func events(from asked: UInt64?, rate: UInt32) throws(DataplaneError) -> FlowEvents {
        eventsAskedAt = .now
        self.rate = max(self.rate, rate)
        try begin()
        try drain()
        let first = next - UInt64(kept.count)
        let from = min(max(asked ?? next, first), next)
        return FlowEvents(
            events: Array(kept.suffix(Int(next - from))), next: next, missed: from - min(asked ?? from, from),
            dropped: tracers.reduce(0) { $0 + $1.dropped })
    }

    private func traffic() throws(DataplaneError) -> TrafficReport {
        try begin()
        try drain()
        var report = TrafficReport(time: NodeAgent.wallTime, backends: [])
        for tracer in tracers {
            for line in try tracer.traffic() {
                if line.service == nil, line.backend == nil {
                    report.others = report.others.map { $0.adding(line) } ?? line
                } else {
                    report.backends.append(line)
                }
            }
        }
        return report
    }

    private func begin() throws(DataplaneError) {
        askedAt = .now
        if tracers.isEmpty {
            tracers = try open()
            scheduleTick()
        }
        for tracer in tracers { tracer.limit(to: rate) }
    }

    private func scheduleTick() { _ = timers.schedule(after: Self.pause) { [mailbox] in mailbox.yield(.tick) } }

    private func tick() {
        if let eventsAskedAt, eventsAskedAt.duration(to: .now) >= Self.patience {
            (kept, rate, self.eventsAskedAt) = ([], 0, nil)
            for tracer in tracers { tracer.limit(to: 0) }
        }
        guard askedAt.duration(to: .now) < Self.patience else {
            tracers = []
            return
        }
        // Whatever fails here fails again, and is told, when somebody asks.
        try? drain()
        scheduleTick()
    }

    private func drain() throws(DataplaneError) {
        if maintainedAt.duration(to: .now) >= .seconds(1) {
            maintainedAt = .now
            for tracer in tracers { try tracer.maintain() }
        }
        for tracer in tracers {
            try tracer.drain { event in
                guard rate > 0 else { return }
                kept.append(event)
                next += 1
            }
        }
        if kept.count > Self.capacity { kept = ArraySlice(kept.suffix(Self.capacity)) }
    }
}
