/// The one queue through which timers, watchers, servers and signals reach the control actor.
import Addressing
import AdminAPI
import AdminServer
import Cluster
import NodeControl
import DataplaneIR
import Observation

enum Message: Sendable {
    /// Write what is due.
    case settle
    /// A deadline has passed; the number of its timer.
    case tick(UInt64)
    /// Every address of every interface.
    case addresses(Set<LocalAddress>)
    /// Somebody changed kernel objects we own; the name of the dataplane concerned.
    case foreignChange(dataplane: String)
    case request(AdminRequest)
    /// Names are to be put to what was seen of traffic.
    case name(SeenTraffic, reply: @Sendable (SeenTraffic) -> Void)
    /// For the metrics of services.
    case traffic(Result<TrafficReport, DataplaneError>)
    case stop
}

/// A question to the actor and where the answer goes.
struct AdminRequest: Sendable {
    enum Question: Sendable {
        case status
        case services
        case endpoints(ObjectName)
        case capacity
        case desired
        case backends
        case verify(repair: Bool)
        case explain(FlowQuestion)
        case routes
        case mesh
        case policy
        /// To the proxy itself.
        case proxy(String)
    }
    let question: Question
    let reply: @Sendable (HTTPResponse) -> Void
}

enum SeenTraffic: Sendable {
    case events(FlowEvents)
    case totals(TrafficReport)
}

struct Mailbox: Sendable {
    let messages: AsyncStream<Message>
    private let continuation: AsyncStream<Message>.Continuation

    init() { (messages, continuation) = AsyncStream.makeStream() }
    func send(_ message: Message) { continuation.yield(message) }
}

/// Where objects come from. The events are consumed once.
struct AgentSource: Sendable {
    let name: String
    let events: AsyncStream<SourceEvent>
    /// What has to run for as long as the events are wanted; returns when the task is cancelled.
    let run: @Sendable () async -> Void
    /// How each watch of an API server is doing.
    let watches: @Sendable () -> [AgentStatus.Watch]
    /// Tells whoever owns an object; does not wait.
    let record: @Sendable (ObjectEvent) -> Void
    /// Says which pods are wanted from now on, and the number of the round; nil: the source tells all there are with
    /// everything else.
    let follow: (@Sendable (PodScope, Int) -> Void)?
    /// Kept alive as long as the events are wanted.
    private let owner: any Sendable

    init(
        name: String, events: AsyncStream<SourceEvent>, owner: any Sendable,
        watches: @escaping @Sendable () -> [AgentStatus.Watch] = { [] },
        record: @escaping @Sendable (ObjectEvent) -> Void = { _ in },
        follow: (@Sendable (PodScope, Int) -> Void)? = nil, run: @escaping @Sendable () async -> Void = {}
    ) {
        self.follow = follow
        self.name = name
        self.events = events
        self.owner = owner
        self.watches = watches
        self.record = record
        self.run = run
    }
}
