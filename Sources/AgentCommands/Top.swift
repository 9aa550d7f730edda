/// `agentctl top`: which services and backends are busy, and which fail.
import Addressing
import AdminAPI
import ArgumentParser
import Glibc
import Observation

struct Top: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Services by connections, bytes, failures and round trip, live.",
        discussion: """
            Counted are flows that begin on this node, from the moment somebody asks; nothing is counted, and it costs
            nothing, while nobody does. At a terminal the screen is refreshed until interrupted.

            Examples:
              agentctl top                         services, the busiest first
              agentctl top --backends --service shop/web
              agentctl top --sort failures --once  one table, of the next two seconds
            """)

    enum Order: String, ExpressibleByArgument, CaseIterable {
        case connections, active, bytes, failures, rtt
    }

    @OptionGroup var filter: FlowFilter
    @Flag(help: "A line for each backend in place of each service port.")
    var backends = false
    @Option(help: "What comes first: connections, active, bytes, failures or rtt.")
    var sort = Order.connections
    @Option(name: [.customShort("n"), .long], help: "Most lines.")
    var lines = 30
    @Option(help: ArgumentHelp("How often it looks.", valueName: "duration"))
    var interval = WaitTime(duration: .seconds(2))
    @Flag(help: "Prints one table and ends.")
    var once = false
    @OptionGroup var options: SharedOptions

    func validate() throws {
        guard interval.duration > .zero else { throw ValidationError("--interval must be longer than nothing") }
    }

    func run() throws {
        let isScreen = isatty(STDOUT_FILENO) == 1 && !once && options.output != .json
        var before = try options.client.get(TrafficReport.self, AdminPath.traffic)
        if !isScreen { Output.complain("counting for \(duration(interval.duration / .seconds(1)))\n") }
        repeat {
            pause(interval.duration)
            let now = try options.client.get(TrafficReport.self, AdminPath.traffic)
            let rates = TrafficRates(
                from: before, to: now, perBackend: backends, sort: sort,
                where: { filter.matches(service: $0.service, pods: [$0.backendPod]) })
            if options.output == .json {
                Output.tell(try jsonLine(rates.lines))
            } else {
                if isScreen { Output.tell("\u{1B}[H\u{1B}[2J") }
                Output.tell(rates.text(lines: lines, perBackend: backends, paint: .forOutput()))
            }
            before = now
        } while !once
    }
}

/// What happened between two reports.
struct TrafficRates {
    struct Line: Encodable, Equatable {
        var service: String
        var backend: SocketAddress?
        var pod: String?
        var connectionsPerSecond = 0.0
        var active = 0
        var failuresPerSecond = 0.0
        /// Since the counting began.
        var connections: UInt64 = 0
        var failures: UInt64 = 0
        /// nil: not counted.
        var receivedBytesPerSecond: Double?
        var sentBytesPerSecond: Double?
        var roundTripSeconds: Double?
        fileprivate var roundTrips = MeanSeconds()

        private enum CodingKeys: String, CodingKey {
            case service, backend, pod, connectionsPerSecond, active, failuresPerSecond, connections, failures
            case receivedBytesPerSecond, sentBytesPerSecond, roundTripSeconds
        }
    }
    private(set) var lines: [Line]

    /// What counts by itself; what is shown may be the sum of several.
    private struct Source: Hashable {
        let service: ServicePortName?
        let transport: FlowTransport
        let dialled: SocketAddress?
        let backend: SocketAddress?
    }
    private struct Key: Hashable {
        let service: ServicePortName?
        let transport: FlowTransport
        let backend: SocketAddress?
    }

    init(
        from before: TrafficReport, to now: TrafficReport, perBackend: Bool, sort: Top.Order,
        where isWanted: (BackendTraffic) -> Bool = { _ in true }
    ) {
        let key = { (line: BackendTraffic) in
            Source(service: line.service, transport: line.protocol, dialled: line.dialled, backend: line.backend)
        }
        let old = Dictionary(before.backends.map { (key($0), $0) }, uniquingKeysWith: { first, _ in first })
        let seconds = max(now.time - before.time, 0.001)
        var sums: [Key: Line] = [:]
        for traffic in now.backends where isWanted(traffic) {
            let group = Key(
                service: traffic.service, transport: traffic.protocol, backend: perBackend ? traffic.backend : nil)
            var line = sums[group] ?? Line(service: traffic.service?.rawValue ?? "-")
            if perBackend { (line.backend, line.pod) = (traffic.backend, traffic.backendPod?.rawValue) }
            line.add(traffic, since: old[key(traffic)], seconds)
            sums[group] = line
        }
        if let others = now.others, others.connections + others.failures > 0 {
            var line = Line(service: "(others)")
            line.add(others, since: before.others, seconds)
            sums[Key(service: nil, transport: .several, backend: nil)] = line
        }
        lines = sums.values.sorted { a, b in
            let (x, y) = (a.rank(sort), b.rank(sort))
            if x != y { return x > y }
            if a.service != b.service { return a.service < b.service }
            return (a.backend?.description ?? "") < (b.backend?.description ?? "")
        }
    }

    func text(lines most: Int, perBackend: Bool, paint: Paint) -> String {
        var table = Table(
            "SERVICE", perBackend ? "BACKEND" : "", "CONN/S", "ACTIVE", "FAIL/S", "FAILED", "IN/S", "OUT/S", "RTT")
        for line in lines.prefix(most) {
            let backend = [line.pod, line.backend?.description].compactMap { $0 }.joined(separator: " ")
            table.add(
                line.service, perBackend ? (backend.isEmpty ? "(none)" : backend) : "",
                Self.rate(line.connectionsPerSecond), "\(line.active)", Self.rate(line.failuresPerSecond),
                "\(line.failures)", Self.bytes(line.receivedBytesPerSecond), Self.bytes(line.sentBytesPerSecond),
                line.roundTripSeconds.map(duration) ?? "-")
        }
        if lines.isEmpty { return "no flows to services from this node\n" }
        let rest = lines.count > most ? "and \(lines.count - most) more, see --lines\n" : ""
        return table.text { column, cell in
            (column == 4 || column == 5) && cell != "0" && cell != "0.0" ? paint(.red, cell) : cell
        } + rest
    }

    private static func rate(_ value: Double) -> String {
        value >= 100 ? "\(Int(value.rounded()))" : "\((value * 10).rounded() / 10)"
    }
    private static func bytes(_ value: Double?) -> String { value.map { byteCount(Int($0.rounded())) } ?? "-" }
}

extension TrafficRates.Line {
    fileprivate mutating func add(_ now: BackendTraffic, since before: BackendTraffic?, _ seconds: Double) {
        // A backend that was forgotten and came back begins at zero.
        func growth(_ new: UInt64, _ old: UInt64?) -> Double { Double(new - min(old ?? 0, new)) / seconds }
        connections += now.connections
        failures += now.failures
        active += now.active
        connectionsPerSecond += growth(now.connections, before?.connections)
        failuresPerSecond += growth(now.failures, before?.failures)
        if let bytes = now.received {
            receivedBytesPerSecond = (receivedBytesPerSecond ?? 0) + growth(bytes, before?.received)
        }
        if let bytes = now.sent { sentBytesPerSecond = (sentBytesPerSecond ?? 0) + growth(bytes, before?.sent) }
        if let trip = now.roundTripSeconds {
            roundTrips.add(trip, times: now.active)
            roundTripSeconds = roundTrips.value
        }
    }

    fileprivate func rank(_ order: Top.Order) -> Double {
        switch order {
        case .connections: connectionsPerSecond
        case .active: Double(active)
        case .bytes: (receivedBytesPerSecond ?? 0) + (sentBytesPerSecond ?? 0)
        case .failures: failuresPerSecond
        case .rtt: roundTripSeconds ?? 0
        }
    }
}
