/// The agent's end of one proxy's connection: what to send when. Pure; HandOver.swift draws the exchange.

package struct HandOverSession: Sendable {
    /// What the proxy said of itself; nil before it did.
    package struct Identity: Equatable, Sendable {
        package let version: String
        package let pid: UInt32
        /// Of the config it started with.
        package let generation: UInt64
    }
    package private(set) var identity: Identity?
    /// What it refused last and why; nil once it took a newer one.
    package private(set) var refusal: (generation: UInt64, reason: String)?
    private var latest: ProxySnapshot?
    private var underWay: ProxySnapshot?
    private var acknowledged: ProxySnapshot?

    package init() {}

    /// The config it works with; 0: none.
    package var generation: UInt64 { acknowledged?.generation ?? identity?.generation ?? 0 }

    /// There is a new configuration. Returns what to send now.
    package mutating func offer(_ snapshot: ProxySnapshot) -> HandOverMessage? {
        latest = snapshot
        return next()
    }

    /// Takes a message of the hand-over itself; returns what to send now.
    package mutating func receive(_ message: HandOverMessage) -> HandOverMessage? {
        switch message {
        case .hello(let version, let pid, let generation):
            identity = Identity(version: version, pid: pid, generation: generation)
        case .ack(let generation) where generation == underWay?.generation:
            (acknowledged, underWay, refusal) = (underWay, nil, nil)
        case .nack(let generation, let reason) where generation == underWay?.generation:
            (underWay, refusal) = (nil, (generation, reason))
        case .ack, .nack, .update, .query, .answer: return nil
        }
        return next()
    }

    private mutating func next() -> HandOverMessage? {
        guard identity != nil, underWay == nil, let latest, latest.generation != acknowledged?.generation,
            latest.generation != refusal?.generation
        else { return nil }
        underWay = latest
        // What a proxy that refused has in mind is not worth guessing: it gets everything.
        return .update(latest.update(since: refusal == nil ? acknowledged : nil))
    }
}
