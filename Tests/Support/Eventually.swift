/// Waiting for something to become true, the only waiting tests may do: poll until a deadline that is generous, because
/// it is only ever reached by a failing test.
import Glibc

/// Returns as soon as `condition` is true; throws after `deadline`. An error thrown by `condition` counts as "not yet"
/// and is shown in the end.
package func eventually(
    _ what: String, within deadline: Duration = .seconds(30), _ condition: () throws -> Bool
) throws(TestFailure) {
    let poll = Poll(what, deadline)
    while try poll.isPending(Result { try condition() }) { usleep(Poll.intervalMicroseconds) }
}
package func eventually(
    _ what: String, within deadline: Duration = .seconds(30), _ condition: () async throws -> Bool
) async throws(TestFailure) {
    let poll = Poll(what, deadline)
    while true {
        let answer: Result<Bool, any Error>
        do { answer = .success(try await condition()) } catch { answer = .failure(error) }
        guard try poll.isPending(answer) else { return }
        try? await Task.sleep(for: .microseconds(Poll.intervalMicroseconds))
    }
}

private struct Poll {
    static let intervalMicroseconds: UInt32 = 2000
    private let what: String
    private let deadline: Duration
    private let end: ContinuousClock.Instant

    init(_ what: String, _ deadline: Duration) {
        self.what = what
        self.deadline = deadline
        end = .now + deadline
    }
    func isPending(_ answer: Result<Bool, any Error>) throws(TestFailure) -> Bool {
        if case .success(true) = answer { return false }
        guard ContinuousClock.now < end else {
            if case .failure(let error) = answer {
                throw TestFailure("\(what): not so within \(deadline); the last try threw: \(error)")
            }
            throw TestFailure("\(what): not so within \(deadline)")
        }
        return true
    }
}
