/// A thread for work that blocks: reading a slow socket, writing a slow log. Nobody waits for its end.
import Glibc

package func startThread(_ body: @escaping @Sendable () -> Void) throws(PosixError) {
    var thread = pthread_t()
    let code = pthread_create(
        &thread, nil,
        { argument in
            guard let argument else { preconditionFailure("pthread_create lost its argument") }
            Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
            return nil
        }, Unmanaged.passRetained(ThreadBody(body)).toOpaque())
    guard code == 0 else { throw PosixError("cannot start a thread: \(String(cString: strerror(code)))", code: code) }
    pthread_detach(thread)
}

/// Lets a thread wait until there is something to do, instead of looking again and again.
// The semaphore is made for threads.
package final class Semaphore: @unchecked Sendable {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    package init() { sem_init(semaphore, 0, 0) }
    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }
    package func signal() { sem_post(semaphore) }
    package func wait() { while sem_wait(semaphore) != 0 {} }
    /// Returns all the same after so many seconds.
    package func wait(atMost seconds: Int) {
        var deadline = timespec()
        clock_gettime(CLOCK_REALTIME, &deadline)
        deadline.tv_sec += seconds
        while sem_timedwait(semaphore, &deadline) != 0, errno == EINTR {}
    }
}

/// pthread_create passes on a pointer, and a closure has none.
private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}
