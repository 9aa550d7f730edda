/// Runs one synchronous closure on a thread made for it and waits. A network namespace belongs to a thread, so code
/// that changes it must never do so on a thread somebody else will use afterwards.

/// Calls `body` on a fresh thread, blocks until it returns and hands its result or error over. `refusal` makes the
/// error for the case that the system gives us no thread.
package func onFreshThread<R: ~Copyable, E: Error>(
    refusal: (PosixError) -> E, _ body: () throws(E) -> R
) throws(E) -> R {
    // Sound because the caller waits in `join`: the closure never outlives this call and never runs beside it.
    let outcome: Outcome<R, E> = withoutActuallyEscaping(body) { escapable in
        nonisolated(unsafe) let call = Call(escapable)
        do throws(PosixError) { try JoinableThread { call.run() }.join() } catch { return .failure(refusal(error)) }
        return call.takeOutcome()
    }
    switch consume outcome {
    case .success(let value): return value
    case .failure(let error): throw error
    }
}

private enum Outcome<R: ~Copyable, E: Error>: ~Copyable {
    case success(R)
    case failure(E)
}

private final class Call<R: ~Copyable, E: Error> {
    private let body: () throws(E) -> R
    private var outcome: Outcome<R, E>?

    init(_ body: @escaping () throws(E) -> R) { self.body = body }

    func run() {
        do throws(E) {
            outcome = .success(try body())
        } catch {
            outcome = .failure(error)
        }
    }
    func takeOutcome() -> Outcome<R, E> {
        guard let result = outcome.take() else { preconditionFailure("the thread ended without a result") }
        return result
    }
}
