/// The series of one event loop: a bounded number, whatever statuses backends answer with and however many pods there
/// are. What exceeds a bound is counted all the same, under fewer labels.
import Balancing
import RouteIR

struct SeriesTable {
    /// Of one loop.
    static let maximum = 2000
    /// Of one service, so that its owner can only crowd out its own.
    static let maximumOfService = 500
    /// Statuses told apart of one service; others count as x00, which RFC 9110 (15) says they are to be taken for.
    static let statusesOfService = 32
    /// For the last scrape of what is gone; of what merely rests (spec 5.1).
    static let grace: (gone: Duration, idle: Duration) = (.seconds(120), .seconds(900))

    private struct Share {
        var series = 0
        var statuses: [UInt16] = []
    }
    private var places: [SeriesKey: Int] = [:]
    private var shares: [UpstreamID: Share] = [:]
    private(set) var entries: [(key: SeriesKey, value: Series)] = []
    /// Where requests like the last ones were counted: to hash a key costs more than to compare it.
    private var recent = InlineArray<16, Int>(repeating: 0)

    /// False if it had to be counted under fewer labels than are its own.
    mutating func add(_ record: borrowing RequestRecord) -> Bool {
        let slot = SeriesKey.slot(of: record) & 15
        let guess = recent[slot]
        if guess < entries.count, entries[guess].key.isKey(of: record) {
            entries[guess].value.add(record)
            return true
        }
        let key = SeriesKey(record)
        if let place = places[key] {
            recent[slot] = place
            entries[place].value.add(record)
            return true
        }
        let bounded = bounded(key)
        let place = places[bounded] ?? insert(bounded)
        entries[place].value.add(record)
        return bounded == key
    }

    /// The key itself, or the one it is counted under.
    private mutating func bounded(_ key: SeriesKey) -> SeriesKey {
        var key = key
        let service = key.upstream ?? .none
        // No share for those that get no series of their own.
        var share = shares[service] ?? Share()
        if !share.statuses.contains(key.status) {
            if share.statuses.count < Self.statusesOfService {
                share.statuses.append(key.status)
                shares[service] = share
            } else {
                key.status = key.status / 100 * 100
                if places[key] != nil { return key }
            }
        }
        if places.count >= Self.maximum { return .others(of: nil) }
        return share.series >= Self.maximumOfService ? .others(of: key) : key
    }

    private mutating func insert(_ key: SeriesKey) -> Int {
        places[key] = entries.count
        entries.append((key, Series()))
        if !key.isOthers { shares[key.upstream ?? .none, default: Share()].series += 1 }
        return entries.count - 1
    }

    /// So many are handed over at a time.
    static let piece = 64
    /// A copy. What is dropped between two pieces may leave out a series of one scrape, or show one twice.
    func piece(from start: Int) -> [(key: SeriesKey, value: Series)] {
        Array(entries[min(start, entries.count)...].prefix(Self.piece))
    }

    /// Drops series of workloads and services that are gone, and those of which nothing was heard for long.
    mutating func sweep(_ table: RoutingTable, now: Moment) {
        let kept = entries.filter { entry in
            let isGone = entry.key.isGone(from: table)
            return now.since(entry.value.last) <= (isGone ? Self.grace.gone : Self.grace.idle)
        }
        guard kept.count < entries.count else { return }
        (entries, places, shares) = (kept, [:], [:])
        for (place, entry) in kept.enumerated() {
            places[entry.key] = place
            guard !entry.key.isOthers else { continue }
            var share = shares[entry.key.upstream ?? .none] ?? Share()
            share.series += 1
            if !share.statuses.contains(entry.key.status) { share.statuses.append(entry.key.status) }
            shares[entry.key.upstream ?? .none] = share
        }
    }
}

extension UpstreamID {
    /// Of requests to no service that is known.
    fileprivate static let none = UpstreamID(RoutedServiceID(namespace: "", name: "", port: 0))
}
