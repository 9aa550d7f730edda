/// Runs one synchronous closure on a thread made for it and waits. A network namespace belongs to a thread, so code
/// that changes it must never do so on a thread somebody else will use afterwards.
import CLinux
import Glibc

/// Calls `body` on a fresh thread, blocks until it returns and hands its result or error over. `refusal` makes the
/// error for the case that the system gives us no thread.
func onFreshThread<R: ~Copyable, E: Error>(
    refusal: (NetnsError) -> E, _ body: () throws(E) -> R
) throws(E) -> R {
    // Sound because the caller waits in pthread_join: the closure never outlives this call and never runs beside it.
    let outcome: Outcome<R, E> = withoutActuallyEscaping(body) { escapable in
        let call = Call(escapable)
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { preconditionFailure("pthread_create lost its argument") }
                Unmanaged<AnyCall>.fromOpaque(argument).takeUnretainedValue().run()
                return nil
            }, Unmanaged<AnyCall>.passUnretained(call).toOpaque())
        guard code == 0 else { return .failure(refusal(NetnsError("start a thread", code: code))) }
        pthread_join(thread, nil)
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

/// What the thread's C entry point can name: a class without type parameters.
private class AnyCall {
    func run() { preconditionFailure("AnyCall is abstract") }
}

private final class Call<R: ~Copyable, E: Error>: AnyCall {
    private let body: () throws(E) -> R
    private var outcome: Outcome<R, E>?

    init(_ body: @escaping () throws(E) -> R) { self.body = body }

    override func run() {
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
