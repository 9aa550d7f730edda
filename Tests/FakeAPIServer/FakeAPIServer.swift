/// A small API server for tests: list in pages, watch, bookmarks, streamed lists, selectors, expiry of history, bearer
/// tokens, TLS; and everything it can do wrong, on request (`FakeFault`).
import NIOCore
import NIOHTTP1
import NIOHTTPCompression
import NIOPosix
package import NIOSSL
import Synchronization

package final class FakeAPIServer: Sendable {
    package struct Options: Sendable {
        /// Whether `sendInitialEvents` is understood; otherwise it is refused with 422, as by servers without the gate.
        package var offersStreamedLists = true
        /// Servers before 1.27 do not know the parameter and ignore it.
        package var ignoresStreamedLists = false
        package var acceptedTokens: Set<String> = []
        package var hasServiceCIDRs = true
        package var hasGatewayAPI = true
        package var forbidsEvents = false
        /// Objects in a page, whatever the client asks for.
        package var pageSize = 500

        package init() {}
    }
    struct Event: Sendable {
        let version: Int
        let new: FakeObject?
        let old: FakeObject?
    }
    struct Watcher: Sendable {
        let channel: any Channel
        let resource: FakeResource
        let selectors: Selectors
    }
    struct State {
        var options = Options()
        var version = 1000
        var objects: [FakeResource: [String: FakeObject]] = [:]
        var events: [FakeResource: [Event]] = [:]
        /// Versions up to this one are forgotten.
        var forgotten = 0
        var watchers: [Watcher] = []
        var requests: [FakeRequest] = []
        var eventNames: Set<String> = []
        var createdEvents: [String] = []
        var writes: [FakeWrite] = []
        var roles: FakeRoles?
        /// By token.
        var users: [String: FakeUser] = [:]
        var forbidden: [String] = []
        var webhookPorts: [String: [Int]] = [:]
        var webhookTurn = 0
        var webhookFailures: [String] = []
        var webhookAnswers = 0
        /// Which requests wait, and those that do.
        var holds: (@Sendable (FakeRequest) -> Bool)?
        var held: [FakeExchange] = []
        var isAway = false
        var writeFaults: [FakeFault] = []
        var faults: [FakeResource: [FakeFault]] = [:]
        var connections: [ObjectIdentifier: any Channel] = [:]
    }

    let state = Mutex(State())
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let listener: Mutex<(any Channel)?> = Mutex(nil)
    private let tls: NIOSSLContext?
    package let port: Int

    /// Listens on 127.0.0.1, on a free port unless one is given, or on a socket that is bound already: in another
    /// network namespace.
    package init(
        port: Int = 0, boundSocket: Int32? = nil, tls: TLSConfiguration? = nil, compresses: Bool = false
    ) async throws {
        self.tls = try tls.map { try NIOSSLContext(configuration: $0) }
        let context = self.tls
        let box = Box()
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let context { try pipeline.addHandler(NIOSSLServerHandler(context: context)) }
                    try pipeline.configureHTTPServerPipeline()
                    if compresses { try pipeline.addHandler(HTTPResponseCompressor()) }
                    try pipeline.addHandler(FakeConnection(server: box))
                }
            }
        let channel =
            if let boundSocket {
                try await bootstrap.withBoundSocket(boundSocket).get()
            } else {
                try await bootstrap.bind(host: "127.0.0.1", port: port).get()
            }
        self.port = channel.localAddress?.port ?? 0
        listener.withLock { $0 = channel }
        box.server.withLock { $0 = self }
    }

    package var url: String { "\(tls == nil ? "http" : "https")://127.0.0.1:\(port)" }

    /// By which programs reach it at `host`, on which it listens.
    package func kubeconfig(at host: String = "127.0.0.1", token: String = "secret") -> String {
        """
        apiVersion: v1
        kind: Config
        current-context: test
        contexts: [{name: test, context: {cluster: test, user: test}}]
        clusters: [{name: test, cluster: {server: "\(url.replacing("127.0.0.1", with: host))"}}]
        users: [{name: test, user: {token: \(token)}}]

        """
    }

    /// Ends all connections and the server.
    package func stop() async {
        let channel = listener.withLock { $0.take() }
        try? await channel?.close().get()
        dropConnections()
        try? await group.shutdownGracefully()
    }

    // MARK: For tests

    package func configure(_ change: @Sendable (inout Options) -> Void) { state.withLock { change(&$0.options) } }
    package var requests: [FakeRequest] { state.withLock { $0.requests } }
    package func requests(_ resource: FakeResource) -> [FakeRequest] { requests.filter { $0.resource == resource } }
    package func watchers(_ resource: FakeResource) -> Int {
        state.withLock { $0.watchers.count { $0.resource == resource && $0.channel.isActive } }
    }
    /// The Events that were created, as they came.
    package var createdEvents: [String] { state.withLock { $0.createdEvents } }
    package var version: Int { state.withLock { $0.version } }

    /// No more faults than those met already.
    package func forgetFaults() { state.withLock { $0.faults = [:] } }
    /// The next requests for this resource meet these faults, one each.
    package func fail(_ resource: FakeResource, _ faults: FakeFault...) {
        state.withLock { $0.faults[resource, default: []] += faults }
    }

    /// Creates or replaces objects.
    package func put(_ resource: FakeResource, _ objects: FakeObject...) { put(resource, objects) }
    package func put(_ resource: FakeResource, _ objects: [FakeObject]) {
        state.withLock { state in
            for object in objects {
                state.version += 1
                var object = object
                let old = state.objects[resource]?[object.key]
                if resource.isCustom { object = succeed(old, object, resource, state) }
                object.resourceVersion = state.version
                state.objects[resource, default: [:]][object.key] = object
                tell(&state, resource, Event(version: state.version, new: object, old: old))
            }
        }
    }
    /// Whoever edits a custom resource gives it another generation and leaves its status alone.
    private func succeed(
        _ old: FakeObject?, _ object: FakeObject, _ resource: FakeResource, _ state: State
    ) -> FakeObject {
        guard var value = object.value(resource) else { return object }
        let before = old?.value(resource)
        value["status"] = value["status"] ?? before?["status"]
        if value["metadata"]?["generation"] == nil {
            let isSame = before != nil && before?["spec"] == value["spec"]
            value["metadata"]?["generation"] = .number(Int64((old?.generation ?? 0) + (isSame ? 0 : 1)))
        }
        let made = before?["metadata"]?["creationTimestamp"] ?? value["metadata"]?["creationTimestamp"]
        value["metadata"]?["creationTimestamp"] = made ?? creationTimestamp(state)
        value["metadata"]?["uid"] = .text(old?.uid ?? object.uid)
        return FakeObject(value)
    }
    package func delete(_ resource: FakeResource, _ namespace: String, _ name: String) {
        state.withLock { remove(resource, "\(namespace)/\(name)", &$0) }
    }
    func remove(_ resource: FakeResource, _ key: String, _ state: inout State) {
        guard let old = state.objects[resource]?.removeValue(forKey: key) else { return }
        state.version += 1
        tell(&state, resource, Event(version: state.version, new: nil, old: old))
    }
    /// Changes the store without telling the watchers, and forgets that it happened: only a list shows it.
    package func deleteSilently(_ resource: FakeResource, _ namespace: String, _ name: String) {
        state.withLock { state in
            state.objects[resource]?["\(namespace)/\(name)"] = nil
            state.version += 1
            state.forgotten = state.version
        }
    }
    /// Watches from any version before now are answered 410.
    package func forgetHistory() {
        state.withLock { state in
            state.version += 1
            state.forgotten = state.version
        }
    }
    /// As a server does whose store was restored from a backup: versions begin again at an older one, nobody is told,
    /// and watches from versions that are yet to come are taken.
    package func restore(_ resource: FakeResource, to version: Int, _ objects: [FakeObject]) {
        state.withLock { state in
            state.version = version
            state.forgotten = 0
            state.events[resource] = []
            state.objects[resource] = [:]
            for var object in objects {
                object.resourceVersion = version
                state.objects[resource]?[object.key] = object
            }
        }
    }
    package func bookmark(_ resource: FakeResource) {
        state.withLock { sendRaw(&$0, resource, bookmark(resource, $0.version)) }
    }
    /// Bytes as they are, into the running watches.
    package func sendRaw(_ resource: FakeResource, _ text: String) {
        state.withLock { sendRaw(&$0, resource, text) }
    }
    /// Ends the running watches in good order.
    package func endWatches(_ resource: FakeResource) {
        state.withLock { state in
            for watcher in state.watchers where watcher.resource == resource { end(watcher.channel) }
            state.watchers.removeAll { $0.resource == resource }
        }
    }
    /// Cuts every connection, as a crash does.
    package func dropConnections() {
        let channels = state.withLock { state in
            state.watchers = []
            return Array(state.connections.values)
        }
        for channel in channels { channel.close(promise: nil) }
    }

    /// Requests of this kind wait until `release`, as at a server that is slow; what nobody waits for is not done.
    package func hold(_ isHeld: @escaping @Sendable (FakeRequest) -> Bool) { state.withLock { $0.holds = isHeld } }
    package var held: Int { state.withLock { $0.held.count } }
    package func release() {
        let held = state.withLock { state in
            state.holds = nil
            defer { state.held = [] }
            return state.held
        }
        for exchange in held {
            exchange.channel.eventLoop.execute { if exchange.isWanted { self.answer(exchange) } }
        }
    }
    /// Takes no connection until `comeBack`, and keeps none.
    package func goAway() {
        state.withLock { $0.isAway = true }
        dropConnections()
    }
    package func comeBack() { state.withLock { $0.isAway = false } }

    // MARK: Watchers

    func tell(_ state: inout State, _ resource: FakeResource, _ event: Event) {
        state.events[resource, default: []].append(event)
        for watcher in state.watchers where watcher.resource == resource {
            if let line = line(event, resource, watcher.selectors) { send(line, to: watcher.channel) }
        }
    }

    /// The event as one who selects sees it: what stops matching is deleted for him.
    func line(_ event: Event, _ resource: FakeResource, _ selectors: Selectors) -> String? {
        let isNow = event.new?.matches(selectors) == true
        let wasBefore = event.old?.matches(selectors) == true
        guard isNow || wasBefore, var object = isNow ? event.new : event.old else { return nil }
        object.resourceVersion = event.version
        let type = isNow ? wasBefore ? "MODIFIED" : "ADDED" : "DELETED"
        return #"{"type":"\#(type)","object":\#(object.json(resource))}"# + "\n"
    }
    func bookmark(_ resource: FakeResource, _ version: Int, endsList: Bool = false) -> String {
        let annotations = endsList ? #","annotations":{"k8s.io/initial-events-end":"true"}"# : ""
        return #"{"type":"BOOKMARK","object":{"kind":"\#(resource.kind)","apiVersion":"\#(resource.apiVersion)","#
            + #""metadata":{"resourceVersion":"\#(version)","creationTimestamp":null\#(annotations)}}}"# + "\n"
    }
    private func sendRaw(_ state: inout State, _ resource: FakeResource, _ text: String) {
        for watcher in state.watchers where watcher.resource == resource { send(text, to: watcher.channel) }
    }
    func send(_ text: String, to channel: any Channel) {
        write([.body(.byteBuffer(ByteBuffer(string: text)))], channel)
    }
    func end(_ channel: any Channel) { write([.end(nil)], channel) }

    /// Not at once: whatever a write makes happen to the channel must find our lock open. The loop keeps the order.
    func write(_ parts: [HTTPServerResponsePart], _ channel: any Channel, thenCut: Bool = false) {
        channel.eventLoop.execute {
            for part in parts { channel.writeAndFlush(part, promise: nil) }
            if thenCut { channel.close(promise: nil) }
        }
    }
}

/// Connections are made before the server knows itself.
final class Box: Sendable {
    let server: Mutex<FakeAPIServer?> = Mutex(nil)
}
