/// Threads for work that blocks, and what they wait for.
import CLinux
import Glibc

/// A thread that somebody waits for.
package struct JoinableThread: Sendable {
    private let thread: pthread_t

    /// `name` as `top -H` shows it: its first 15 characters; nil: the one of the thread that calls.
    package init(_ name: String? = nil, _ body: @escaping @Sendable () -> Void) throws(PosixError) {
        let start = Unmanaged.passRetained(
            ThreadBody {
                if let name { clinux_name_thread(name) }
                body()
            })
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { preconditionFailure("pthread_create lost its argument") }
                Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, start.toOpaque())
        guard code == 0 else {
            start.release()
            throw .errno(name.map { "start thread \($0)" } ?? "start a thread", code)
        }
        self.thread = thread
    }

    /// Waits for its end; to be called once, by another thread.
    package func join() { pthread_join(thread, nil) }
    fileprivate func detach() { pthread_detach(thread) }
    package var isCurrent: Bool { pthread_equal(thread, pthread_self()) != 0 }
}

/// A thread whose end nobody waits for: reading a slow socket, writing a slow log.
package func startThread(_ body: @escaping @Sendable () -> Void) throws(PosixError) {
    try JoinableThread(nil, body).detach()
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
