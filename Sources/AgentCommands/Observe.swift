/// `agentctl observe`: flows to services as they happen.
import Addressing
import AdminAPI
import ArgumentParser
import FoundationEssentials
import Glibc
import Observation

struct Observe: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Flows to services as they happen: who, to which backend, and what went wrong.",
        discussion: """
            connect     the first packet of a TCP connection leaves     datagrams  a new UDP flow
            refused     no packet left: the service has no endpoint     failed     the backend did not answer
            closed      a TCP connection ended: bytes, time, round trip

            Nothing is observed, and it costs nothing, while nobody asks. Above --rate events are left out and counted.

            Examples:
              agentctl observe --service shop/web
              agentctl observe --event refused --event failed      only what went wrong
              agentctl observe --pod shop/cart-0 -o json | jq      one JSON object a line
              agentctl observe -n 100                              ends after a hundred
            """)

    @OptionGroup var filter: FlowFilter
    @Option(
        name: .customLong("event"), help: ArgumentHelp("Only this kind; may be given again.", valueName: "kind"))
    var kinds: [FlowEvent.Kind] = []
    @Option(name: [.customShort("n"), .long], help: "Ends after so many events.")
    var count: Int?
    @Option(name: .customLong("for"), help: ArgumentHelp("Ends after this time.", valueName: "duration"))
    var time: WaitTime?
    @Option(help: ArgumentHelp("Most events in a second.", valueName: "events"))
    var rate: UInt32 = 1000
    @OptionGroup var options: SharedOptions

    func validate() throws {
        guard rate > 0 else { throw ValidationError("--rate 0 would show nothing") }
    }

    func run() throws {
        var lines = FlowLines(paint: .forOutput())
        var (next, dropped) = (UInt64?.none, UInt64(0))
        var left = count ?? .max
        let clock = ContinuousClock()
        let end = time.map { clock.now + $0.duration }
        while left > 0 {
            let answer = try options.client.get(
                FlowEvents.self, AdminPath.observe,
                [("rate", "\(rate)")] + (next.map { [("from", "\($0)")] } ?? []))
            if next == nil {
                dropped = answer.dropped
                Output.complain("observing; the events are those from now on\n")
            }
            tellLosses(answer.missed, answer.dropped - min(dropped, answer.dropped))
            (next, dropped) = (answer.next, answer.dropped)
            let events = answer.events.filter(isWanted).prefix(left)
            left -= events.count
            Output.tell(options.output == .json ? try events.map(jsonLine).joined() : lines.text(events))
            if let end, clock.now >= end { return }
            usleep(200_000)
        }
    }

    private func isWanted(_ event: FlowEvent) -> Bool {
        (kinds.isEmpty || kinds.contains(event.kind))
            && filter.matches(service: event.service, pods: [event.client, event.backendPod])
    }

    private func tellLosses(_ missed: UInt64, _ dropped: UInt64) {
        if dropped > 0 { Output.complain("note: \(dropped) events above --rate \(rate) were left out\n") }
        if missed > 0 { Output.complain("note: \(missed) events were not fetched in time\n") }
    }
}

extension FlowEvent.Kind: ExpressibleByArgument {}

/// Which flows are asked for.
struct FlowFilter: ParsableArguments {
    @OptionGroup var services: ServiceFilter
    @Option(help: ArgumentHelp("Only flows from or to this pod.", valueName: "namespace/name"))
    var pod: String?

    func matches(service: ServicePortName?, pods: [FlowEnd?]) -> Bool {
        services.matches(service?.rawValue ?? "") && (pod == nil || pods.contains { $0?.rawValue == pod })
    }
}

func jsonLine(_ value: some Encodable) throws(CommandFailure) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(value) else { throw CommandFailure("the answer cannot be put as JSON") }
    return String(decoding: data, as: UTF8.self) + "\n"
}

/// Lines under titles. A column that must grow grows for good, and the titles stand again above it.
struct FlowLines {
    let paint: Paint
    private static let titles = ["TIME", "EVENT", "", "SERVICE", "CLIENT", "PROCESS", "BACKEND", "DETAIL"]
    /// Of all columns but the last, whose width is nobody's business.
    private var widths = [12, 9, 3, 16, 28, 12, 28]
    private var hasTitles = false

    init(paint: Paint) { self.paint = paint }

    /// Events that came together are as wide as the widest of them.
    mutating func text(_ events: some Collection<FlowEvent>) -> String {
        let rows = events.map { ($0, Self.cells($0)) }
        let grown = widths.indices.map { column in rows.map { $0.1[column].count }.max() ?? 0 }
        // In steps, so that titles do not come back for every letter more.
        let wider = zip(widths, grown).map { $1 > $0 ? ($1 + 3) / 4 * 4 : $0 }
        let needsTitles = !rows.isEmpty && (!hasTitles || wider != widths)
        widths = wider
        hasTitles = hasTitles || needsTitles
        let paint = paint
        return (needsTitles ? line(Self.titles) : "")
            + rows.map { event, cells in
                let isBad = event.kind == .refused || event.kind == .failed
                return line(cells) { column, cell in column == 1 && isBad ? paint(.red, cell) : cell }
            }.joined()
    }

    private static func cells(_ event: FlowEvent) -> [String] {
        let process = [event.command, event.pid.map { "[\($0)]" }].compactMap { $0 }.joined()
        return [
            timeOfDay(event.time), event.kind.rawValue, event.protocol.rawValue, event.service?.rawValue ?? "-",
            place(event.client, event.source), process.isEmpty ? "-" : process,
            place(event.backendPod, event.backend), detail(event),
        ]
    }

    /// `shop/web-0 10.1.0.3:8080`
    private static func place(_ pod: FlowEnd?, _ address: SocketAddress?) -> String {
        let text = address.map { $0.port == 0 ? $0.address.description : $0.description }
        let parts = [pod?.rawValue, text].compactMap { $0 }
        return parts.isEmpty ? "-" : parts.joined(separator: " ")
    }

    private static func detail(_ event: FlowEvent) -> String {
        var parts: [String] = []
        if let passage = event.passage { parts.append(Self.word(passage)) }
        if let error = event.error { parts.append(error) }
        if event.kind == .failed, event.error == nil { parts.append("given up by the client") }
        if let hits = event.affinityHits { parts.append("affinity, \(hits) in a row") }
        if event.service == nil || event.kind == .refused { parts.append("dialled \(event.dialled)") }
        if let sent = event.sent, let received = event.received {
            parts.append("sent \(byteCount(Int(sent))), received \(byteCount(Int(received)))")
        }
        if let seconds = event.seconds { parts.append("after \(duration(seconds))") }
        if let trip = event.roundTripSeconds { parts.append("round trip \(duration(trip))") }
        return parts.joined(separator: ", ")
    }

    private static func word(_ passage: FlowPassage) -> String {
        switch passage.kind {
        case .tunnel: "tunnel" + (passage.serverIdentity.map { " to \($0)" } ?? "")
        case .plaintext, .either, .none: "\(passage.kind.rawValue) (\(passage.reason))"
        }
    }

    private func line(_ cells: [String], _ paint: (Int, String) -> String = { _, cell in cell }) -> String {
        var text = ""
        for (column, cell) in cells.enumerated() {
            text += paint(column, cell)
            if column < widths.count { text += String(repeating: " ", count: widths[column] - cell.count + 2) }
        }
        while text.last == " " { text.removeLast() }
        return text + "\n"
    }
}

/// `19:04:05.123`, local time.
private func timeOfDay(_ time: Double) -> String {
    var seconds = time_t(time)
    var parts = tm()
    localtime_r(&seconds, &parts)
    let two = { (value: Int32) in value < 10 ? "0\(value)" : "\(value)" }
    let thousandths = "\(1000 + Int((time - time.rounded(.down)) * 1000))".suffix(3)
    return "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(thousandths)"
}

/// `85us`, `1.2ms`, `3.4s`, `5m`
func duration(_ seconds: Double) -> String {
    let tenths = { (value: Double) in "\((value * 10).rounded() / 10)" }
    switch seconds {
    case ..<0.001: return "\(Int((seconds * 1e6).rounded()))us"
    case ..<1: return tenths(seconds * 1000) + "ms"
    case ..<10: return tenths(seconds) + "s"
    default: return age(seconds)
    }
}
