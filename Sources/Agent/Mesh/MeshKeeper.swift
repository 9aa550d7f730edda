/// Keeps the pods of the mesh on this node steered: finds their network namespaces, begins and ends steering, hands
/// their listeners to the proxy. On a thread of its own, because namespaces of pods answer when they like.
import Addressing
import DataplaneIR
import HandOverLink
import LinuxDataplane
import Logging
import Netns
import Posix
import Synchronization

final class MeshKeeper: Sendable {
    struct PodState: Equatable, Sendable {
        /// Its tunnels come in, and its mode holds.
        var isAttached: Bool
        var problem: String?
    }

    /// What is done in the kernel; made on the keeper's thread.
    struct Kernel {
        var steering: any PodSteering
        var namespaces: PodNamespaces
        /// Told the network namespaces of all pods that are attached, with the pods' own addresses. False: not yet.
        /// Of others those with `keeping` among their addresses stay.
        var clients: (_ found: [UInt64: [IPAddress]], _ keeping: Set<IPAddress>) throws(DataplaneError) -> Bool
    }

    struct Wanted {
        var pods: [IPAddress: MeshPodProgram]
        /// Also those that are not in the mesh, by their uid.
        var present: [String: [IPAddress]]
    }

    private struct Shared {
        /// nil: nothing has been written yet.
        var wanted: Wanted?
        var report: [IPAddress: PodState] = [:]
        var namespaces: [IPAddress: NetworkNamespace] = [:]
        var isStopped = false
    }
    private let shared = Mutex(Shared())
    private let news = Semaphore()
    private let log: Logger
    let sockets: PodSocketServer

    init(log: Logger) {
        self.log = log
        let namespaces = Namespaces()
        self.namespaces = namespaces
        sockets = PodSocketServer { namespaces.makeSocket(of: $0) }
    }
    private let namespaces: Namespaces

    /// `open` is called on the keeper's thread, again and again until it succeeds.
    func start(_ open: @escaping @Sendable () throws(DataplaneError) -> Kernel) throws(PosixError) {
        try startThread { self.run(open) }
    }

    /// To be called after each write of the node's program. `present`: the pods of this node, by their uid.
    func apply(_ program: MeshProgram, present: [String: [IPAddress]] = [:]) {
        let isNew = shared.withLock { shared in
            defer { shared.wanted = Wanted(pods: program.pods, present: present) }
            return shared.wanted?.pods != program.pods
        }
        if isNew { news.signal() }
    }

    func stop() {
        shared.withLock { $0.isStopped = true }
        news.signal()
        sockets.stop()
    }

    /// Every pod that is to be steered, by its addresses.
    var report: [IPAddress: PodState] { shared.withLock(\.report) }

    // MARK: The thread

    private func run(_ open: @Sendable () throws(DataplaneError) -> Kernel) {
        var work: MeshWork?
        while !shared.withLock(\.isStopped) {
            guard let wanted = shared.withLock(\.wanted) else {
                news.wait()
                continue
            }
            if work == nil {
                do throws(DataplaneError) {
                    work = MeshWork(try open(), sockets: sockets, namespaces: namespaces, log: log)
                } catch {
                    fail(wanted, "\(error)")
                    news.wait(atMost: 5)
                    continue
                }
            }
            work?.bring(wanted, now: .now)
            if let work, work.isSettled { sockets.complete(others: work.others) }
            if let report = work?.report { shared.withLock { $0.report = report } }
            if let pause = work?.pause { news.wait(atMost: pause) } else { news.wait() }
        }
    }

    private func fail(_ wanted: Wanted, _ problem: String) {
        let isNews = shared.withLock { shared in
            let report = wanted.pods.mapValues { _ in PodState(isAttached: false, problem: problem) }
            defer { shared.report = report }
            return shared.report != report
        }
        if isNews { log.error("pods of the mesh cannot be steered: \(problem)") }
    }

    /// Who asks for a socket of a pod is no thread of the keeper's.
    final class Namespaces: Sendable {
        private let state = Mutex<[IPAddress: NetworkNamespace]>([:])
        func set(_ pod: IPAddress, _ namespace: NetworkNamespace?) { state.withLock { $0[pod] = namespace } }
        func makeSocket(of pod: IPAddress) -> Int32? {
            guard let namespace = state.withLock({ $0[pod] }) else { return nil }
            return try? PodSocket.unconnected(pod.family, in: namespace)
        }
    }
}

extension MeshKeeper {
    /// Why pods that are wanted in the mesh are not, or not safely.
    var problems: [IPAddress: String] {
        report.compactMapValues { $0.problem ?? ($0.isAttached ? nil : "its network namespace is being looked for") }
    }
}
