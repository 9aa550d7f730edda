/// What clients make one event loop keep in memory: who holds how much, and who has to go when it is too much. Counted
/// where bytes wait for somebody, not for every request's every byte: what passes through costs nothing here.
import Addressing
import CLinux
import NIOCore
import Posix

/// A bound that something ran into. Each is counted: `heddle_proxy_limited_total{limit}`.
package enum ProxyLimit: String, CaseIterable, Sendable {
    /// 1xx heads of a backend before its answer.
    case interimAnswers = "interim-answers"
    /// A copy of a request whose backend does not read.
    case mirrorBuffer = "mirror-buffer"
    /// Copies under way.
    case mirrorCount = "mirror-count"
    case connectionMemory = "connection-memory"
    /// All connections of one client address.
    case sourceMemory = "source-memory"
    case processMemory = "process-memory"
    case patternSteps = "pattern-steps"
    case series
}

/// The bounds of one event loop, from `--memory-limit`.
struct MemoryLimits {
    let loop: Int
    /// Half of it, so that no client can crowd out all others.
    let source: Int
    let connection: Int

    init(_ options: EngineOptions) {
        loop = options.memoryLimit / max(1, options.threads)
        source = loop / 2
        connection = min(32 << 20, loop / 4)
    }

    /// What a connection costs before anything waits: its objects, and what its channel may keep uncounted.
    static let http1Connection = 16 << 10
    static let http2Connection = 64 << 10
    /// Both sides of it.
    static let relay = 8 << 10
    /// A request under way without its bytes.
    static let request = 4 << 10
    /// Of the body of a copied request.
    static let mirror = 256 << 10
    static let mirrors = 1024
    static let mirrorsOfUpstream = 256
}

/// One client address.
final class MemorySource {
    let address: IPAddress
    fileprivate(set) var held = 0
    fileprivate var connections = 0

    init(_ address: IPAddress) { self.address = address }
}

struct MemoryLedger {
    fileprivate(set) var held = 0
    /// The most since memory was last given back to the system.
    fileprivate var peak = 0
    /// Those with a connection.
    fileprivate var sources: [IPAddress: MemorySource] = [:]
    fileprivate var isShedding = false
    fileprivate var mirrors: [ObjectIdentifier: Exchange] = [:]
}

extension Shard {
    // MARK: Counting

    /// The address's account, for a new connection; nil: it may have none.
    func admit(_ address: IPAddress) -> MemorySource? {
        let source = ledger.sources[address] ?? MemorySource(address)
        guard source.held + MemoryLimits.http1Connection <= limits.source else {
            limited(.sourceMemory)
            return nil
        }
        ledger.sources[address] = source
        source.connections += 1
        return source
    }
    /// The connection is gone. What copies of its requests still hold goes with them.
    func dismiss(_ arrival: Arrival) {
        arrival.source.connections -= 1
        if arrival.source.connections == 0 { ledger.sources[arrival.source.address] = nil }
    }

    /// More bytes wait on behalf of this client, or fewer.
    func hold(_ bytes: Int, _ arrival: Arrival) {
        arrival.held += bytes
        arrival.source.held += bytes
        ledger.held += bytes
        guard bytes > 0 else { return }
        ledger.peak = max(ledger.peak, ledger.held)
        guard ledger.held > limits.loop || arrival.source.held > limits.source || arrival.held > limits.connection,
            !ledger.isShedding
        else { return }
        // Not from inside whatever holds the bytes.
        ledger.isShedding = true
        loop.assumeIsolated().execute {
            self.ledger.isShedding = false
            self.shed()
        }
    }

    func limited(_ limit: ProxyLimit) { stats.limited[limit, default: 0] += 1 }

    // MARK: Shedding

    /// In this order: connections above their own bound; of an address above its bound those that hold most; when the
    /// loop is above its bound first the copies of requests, then of the address that holds most the connections that
    /// hold most. Down to seven eighths, so that it is not done for every byte.
    private func shed() {
        for connection in connections.values where connection.held > limits.connection {
            limited(.connectionMemory)
            connection.abort()
        }
        for source in ledger.sources.values where source.held > limits.source {
            shed(source, to: limits.source / 8 * 7, .sourceMemory)
        }
        guard ledger.held > limits.loop else { return }
        for mirror in ledger.mirrors.values {
            limited(.processMemory)
            mirror.giveUp(.overflow, "memory_limit")
        }
        let goal = limits.loop / 8 * 7
        for source in ledger.sources.values.sorted(by: { $0.held > $1.held }) where ledger.held > goal {
            shed(source, to: source.held - (ledger.held - goal), .processMemory)
        }
    }

    private func shed(_ source: MemorySource, to goal: Int, _ limit: ProxyLimit) {
        let own = connections.values.filter { $0.source === source }.sorted { $0.held > $1.held }
        for connection in own {
            guard source.held > goal else { return }
            limited(limit)
            connection.abort()
        }
    }

    /// After much was held and given back the system gets it, too. On a thread: it takes milliseconds.
    func giveMemoryBack() {
        guard ledger.peak - ledger.held > 16 << 20 else { return }
        ledger.peak = ledger.held
        // Without a thread it stays with the allocator, which is no worse than before.
        try? startThread { clinux_trim_heap() }
    }

    // MARK: Copies of requests

    func mayMirror(to pool: UpstreamPool) -> Bool {
        let isFree = ledger.mirrors.count < MemoryLimits.mirrors && pool.mirrors < MemoryLimits.mirrorsOfUpstream
        if !isFree { limited(.mirrorCount) }
        return isFree
    }
    func mirrorBegan(_ mirror: Exchange, to pool: UpstreamPool) {
        ledger.mirrors[ObjectIdentifier(mirror)] = mirror
        pool.mirrors += 1
    }
    func mirrorEnded(_ mirror: Exchange) {
        guard ledger.mirrors.removeValue(forKey: ObjectIdentifier(mirror)) != nil else { return }
        mirror.target?.pool.mirrors -= 1
    }
}
