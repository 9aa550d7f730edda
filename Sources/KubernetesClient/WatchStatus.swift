/// How each watch is doing, for `agentctl status`.
package import Cluster
import Synchronization

package struct WatchStatus: Equatable, Sendable {
    package enum State: String, Sendable {
        /// Not connected yet.
        case starting
        case listing
        case watching
        /// After trouble; `message` says which.
        case waiting
        /// The server does not have this kind, and we can do without it.
        case off
    }

    package let kind: ObjectKind
    /// `services`
    package let resource: String
    package var state = State.starting
    /// What is wrong; nil: all is well.
    package var message: String?
    package var resourceVersion: String?
    package var objects = 0
    /// Objects that cannot be used now.
    package var refusedObjects = 0
    /// Requests that ended badly.
    package var errors = 0
    /// Requests after the first one.
    package var reconnects = 0
    /// Since the server last sent anything; nil: it never did.
    package var age: Duration?

    init(_ resource: WatchedResource) {
        kind = resource.kind
        self.resource = resource.title
    }
}

/// The state of all watches, written by each of them and read by anybody.
final class StatusBoard: Sendable {
    private struct Entry {
        var status: WatchStatus
        var heard: ContinuousClock.Instant?
    }
    private let entries: Mutex<[Entry]>

    init(_ resources: [WatchedResource]) { entries = Mutex(resources.map { Entry(status: WatchStatus($0)) }) }

    var snapshot: [WatchStatus] {
        let now = ContinuousClock.now
        return entries.withLock { $0 }.map { entry in
            var status = entry.status
            status.age = entry.heard.map { now - $0 }
            return status
        }
    }

    /// For a kind that is followed later than the others.
    func add(_ resource: WatchedResource) {
        entries.withLock { $0.append(Entry(status: WatchStatus(resource))) }
    }
    func remove(_ resource: WatchedResource) {
        entries.withLock { $0.removeAll { $0.status.resource == resource.title } }
    }
    func heard(_ resource: WatchedResource) { change(resource) { $0.heard = .now } }
    func update(_ resource: WatchedResource, _ body: (inout WatchStatus) -> Void) {
        change(resource) { body(&$0.status) }
    }

    private func change(_ resource: WatchedResource, _ body: (inout Entry) -> Void) {
        entries.withLock { entries in
            guard let index = entries.firstIndex(where: { $0.status.resource == resource.title }) else { return }
            body(&entries[index])
        }
    }
}
