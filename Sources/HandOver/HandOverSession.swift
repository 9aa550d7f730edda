/// The agent's end of one proxy's connection: what to send when. Pure; HandOver.swift draws the exchange.
package import RouteIR

package struct HandOverSession: Sendable {
    /// What the proxy said of itself; nil before it did.
    package struct Identity: Equatable, Sendable {
        package let version: String
        package let pid: UInt32
        /// Of the config it started with.
        package let generation: UInt64
    }
    package private(set) var identity: Identity?
    /// What it does not work with and why; nil once it took a newer one.
    package private(set) var refusal: (generation: UInt64, reason: String)?
    /// What the last update said that the proxy does not know.
    package private(set) var ignored: [String] = []
    private var latest: ProxySnapshot?
    private var underWay: ProxySnapshot?
    /// nil: what it has is not known, so it gets everything.
    private var acknowledged: ProxySnapshot?
    private var acknowledgedGeneration: UInt64?

    package init() {}

    /// The config it works with; 0: none.
    package var generation: UInt64 { acknowledgedGeneration ?? identity?.generation ?? 0 }

    /// There is a new configuration. Returns what to send now.
    package mutating func offer(_ snapshot: ProxySnapshot) -> HandOverMessage? {
        latest = snapshot
        return next()
    }

    /// Takes a message of the hand-over itself; returns what to send now.
    package mutating func receive(_ message: HandOverMessage) -> HandOverMessage? {
        switch message {
        case .hello(let version, let pid, let generation):
            identity = Identity(version: version.limited(to: 100), pid: pid, generation: generation)
        case .ack(let generation, let ignored) where generation == underWay?.generation:
            self.ignored = ignored.prefix(100).map { $0.limited(to: 100) }
            (acknowledged, acknowledgedGeneration) = (underWay, generation)
            (underWay, refusal) = (nil, nil)
        case .nack(let generation, let reason):
            guard let sent = underWay, generation == sent.generation || generation == 0 else { return nil }
            (underWay, refusal) = (nil, (sent.generation, reason.limited(to: 1000)))
            // What a proxy that refused has in mind is not worth guessing: it gets everything.
            acknowledged = nil
        case .ack, .update, .query, .answer, .certificate, .certified, .ownSockets, .unknown:
            return nil
        }
        return next()
    }

    /// The update that was to be sent has so many bytes, and cannot be. What the proxy has is still known.
    package mutating func couldNotSend(_ bytes: Int, limit: Int) {
        guard let sent = underWay else { return }
        let reason =
            "the configuration has \(bytes) bytes, more than the \(limit) that can be handed over; the last one that "
            + "fitted stays in force: attach fewer or smaller routes"
        (underWay, refusal) = (nil, (sent.generation, reason))
    }

    private mutating func next() -> HandOverMessage? {
        guard identity != nil, underWay == nil, let latest, latest.generation != acknowledged?.generation,
            latest.generation != refusal?.generation
        else { return nil }
        underWay = latest
        return .update(latest.update(since: acknowledged))
    }
}

extension String {
    /// What a proxy says of itself is kept and shown: no more of it than somebody reads.
    fileprivate func limited(to count: Int) -> String {
        utf8.count <= count ? self : String(decoding: utf8.prefix(count), as: UTF8.self) + "..."
    }
}
