/// A thread for work that blocks: reading a slow socket, writing a slow log. Nobody waits for its end.
import Glibc

package func startThread(_ body: @escaping @Sendable () -> Void) throws(ProxyError) {
    var thread = pthread_t()
    let code = pthread_create(
        &thread, nil,
        { argument in
            guard let argument else { preconditionFailure("pthread_create lost its argument") }
            Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
            return nil
        }, Unmanaged.passRetained(ThreadBody(body)).toOpaque())
    guard code == 0 else { throw ProxyError("cannot start a thread: \(String(cString: strerror(code)))") }
    pthread_detach(thread)
}

/// pthread_create passes on a pointer, and a closure has none.
private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}
