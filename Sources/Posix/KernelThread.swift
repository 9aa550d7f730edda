/// One thread that may block. Netlink and bpf calls run here, never on Swift's shared pool, which has only as many
/// threads as the machine has cores. An actor whose `unownedExecutor` is a KernelThread runs all its code on it.
///
/// A hop there and back costs some 45 µs: hand over whole plans, not single entries.
import Glibc

// @unchecked: `state` is only touched with `lock` held; everything else is immutable.
package final class KernelThread: SerialExecutor, @unchecked Sendable {
    private struct State {
        var jobs: [UnownedJob] = []
        var stopping = false
        var thread: JoinableThread?
    }

    private let name: String
    private let lock: UnsafeMutablePointer<pthread_mutex_t> = .allocate(capacity: 1)
    private let wake: UnsafeMutablePointer<pthread_cond_t> = .allocate(capacity: 1)
    private var state = State()

    /// Starts the thread. It keeps this object alive until `shutdown()`.
    package init(name: String) throws(PosixError) {
        self.name = name
        pthread_mutex_init(lock, nil)
        pthread_cond_init(wake, nil)
        // Held while the thread is created, so that the thread cannot run a job before it is known.
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        state.thread = try JoinableThread(name) { self.run() }
    }

    deinit {
        pthread_cond_destroy(wake)
        pthread_mutex_destroy(lock)
        wake.deallocate()
        lock.deallocate()
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        withState { state in
            precondition(!state.stopping, "work for thread \(name) after its shutdown")
            state.jobs.append(job)
        }
        pthread_cond_signal(wake)
    }

    /// Runs what was handed over so far, ends the thread and waits. Whoever calls it must know that no actor
    /// on this thread has anything left to do. Not to be called from the thread itself.
    package func shutdown() {
        let thread = withState { state in
            state.stopping = true
            return state.thread.take()
        }
        guard let thread else { return }
        precondition(!thread.isCurrent, "thread \(name) cannot wait for its own end")
        pthread_cond_signal(wake)
        thread.join()
    }

    package func isIsolatingCurrentContext() -> Bool? {
        withState { $0.thread?.isCurrent ?? false }
    }
    package func checkIsolated() {
        precondition(isIsolatingCurrentContext() == true, "this code must run on thread \(name)")
    }

    private func withState<R>(_ body: (inout State) -> R) -> R {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return body(&state)
    }

    private func run() {
        while let jobs = nextJobs() {
            for job in jobs { job.runSynchronously(on: asUnownedSerialExecutor()) }
        }
    }
    /// Blocks until there is work; nil: the end.
    private func nextJobs() -> [UnownedJob]? {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while state.jobs.isEmpty {
            if state.stopping { return nil }
            pthread_cond_wait(wake, lock)
        }
        defer { state.jobs = [] }
        return state.jobs
    }
}
