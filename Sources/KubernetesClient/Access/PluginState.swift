/// What the credential plugin gave last, and how long that is good for.
import Cluster

struct PluginState {
    typealias Outcome = Result<ExecCredential, AccessError>
    /// Credentials are renewed so long before they expire, and are good for a moment even if they had expired before
    /// they came: a clock may be wrong.
    private static let margin = 60.0
    private static let shortest = Duration.seconds(10)

    /// Counts the runs.
    private(set) var run = 0
    var isRunning = false
    var waiters: [CheckedContinuation<Outcome, Never>] = []
    private var outcome: (result: Outcome, at: ContinuousClock.Instant)?
    /// After a failure the plugin rests, whoever asks.
    private var rest = Duration.zero
    private var backoff: Backoff

    init(backoff: Backoff) { self.backoff = backoff }

    /// nil: the plugin must run.
    func known(now: ContinuousClock.Instant, wallTime: Double) -> Outcome? {
        guard let outcome else { return nil }
        switch outcome.result {
        case .failure: return now - outcome.at < rest ? outcome.result : nil
        case .success(let credential):
            let expiry = credential.expiration.flatMap(Timestamp.seconds) ?? .infinity
            return wallTime < expiry - Self.margin || now - outcome.at < Self.shortest ? outcome.result : nil
        }
    }

    /// Returns those who wait for it.
    mutating func ended(_ result: Outcome, now: ContinuousClock.Instant) -> [CheckedContinuation<Outcome, Never>] {
        run += 1
        isRunning = false
        outcome = (result, now)
        switch result {
        case .success: backoff.reset()
        case .failure:
            var random = SystemRandomNumberGenerator()
            rest = backoff.next(using: &random)
        }
        defer { waiters = [] }
        return waiters
    }

    mutating func refused(run refused: Int) {
        guard refused == run, case .success? = outcome?.result else { return }
        outcome = nil
    }
}
