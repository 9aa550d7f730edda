/// What the mesh keeper does, one round after the other: brings what is steered to what is wanted. All by one thread.
import Addressing
import DataplaneIR
import Glibc
import HandOverLink
import LinuxDataplane
import Logging
import Netns
import Reconcile

struct MeshWork {
    /// What was steered is looked at again this often: a namespace may be another's, a link somebody's.
    private static let auditPeriod = Duration.seconds(30)

    private struct Attached {
        var pod: SteeredPod
        /// The kernel's name for its network namespace.
        var cookie: UInt64?
    }
    private let kernel: MeshKeeper.Kernel
    private let sockets: PodSocketServer
    private let namespaces: MeshKeeper.Namespaces
    private let log: Logger
    private var attached: [String: Attached] = [:]
    private var problems: [String: String] = [:]
    private var wanted: [String: [IPAddress: MeshPodProgram]] = [:]
    /// Addresses of this node's pods that are not wanted.
    private(set) var others: Set<IPAddress> = []
    /// Seconds until those that were not found are looked for again.
    private var patience = 1
    private var nextAudit: ContinuousClock.Instant?
    private var hasAudited = false
    private var mustTellClients = true

    init(
        _ kernel: MeshKeeper.Kernel, sockets: PodSocketServer, namespaces: MeshKeeper.Namespaces, log: Logger
    ) {
        self.kernel = kernel
        self.sockets = sockets
        self.namespaces = namespaces
        self.log = log
    }

    /// All that is wanted is attached, or has been looked for long enough.
    var isSettled: Bool { hasAudited || missingAddresses.isEmpty }
    /// Of pods that are wanted and not found yet: what a predecessor did for them goes on.
    private var missingAddresses: Set<IPAddress> {
        Set(wanted.filter { attached[$0.key] == nil }.values.flatMap(\.keys))
    }

    /// Seconds to wait for news; nil: nothing is to be done without any.
    var pause: Int? {
        let isMissing = mustTellClients || wanted.keys.contains { attached[$0] == nil }
        return isMissing ? patience : attached.isEmpty && hasAudited ? nil : 30
    }

    var report: [IPAddress: MeshKeeper.PodState] {
        var report: [IPAddress: MeshKeeper.PodState] = [:]
        for (uid, addresses) in wanted {
            let state = MeshKeeper.PodState(isAttached: attached[uid] != nil, problem: problems[uid])
            for address in addresses.keys { report[address] = state }
        }
        return report
    }

    mutating func bring(_ program: MeshKeeper.Wanted, now: ContinuousClock.Instant) {
        var pods: [String: [IPAddress: MeshPodProgram]] = [:]
        for (address, pod) in program.pods { pods[pod.uid, default: [:]][address] = pod }
        if pods.keys != wanted.keys { patience = 1 }
        wanted = pods
        others = Set(program.present.filter { pods[$0.key] == nil }.values.flatMap(\.self))
        for (uid, one) in attached where wanted[uid].map({ $0.keys != one.pod.addresses.keys }) ?? true {
            release(one.pod, isGone: program.present[uid] == nil)
        }
        problems = problems.filter { wanted[$0.key] != nil }
        for (uid, one) in attached where wanted[uid] != one.pod.addresses { change(one.pod) }
        if nextAudit ?? now <= now {
            // Not at the first round: what a predecessor steered may be wanted in a moment.
            hasAudited = nextAudit != nil
            if hasAudited { audit() }
            nextAudit = now + Self.auditPeriod
        }
        attachMissing()
        tellClients()
    }

    // MARK: Pods

    private mutating func attachMissing() {
        let missing = wanted.filter { attached[$0.key] == nil }
        guard !missing.isEmpty else { return }
        do throws(NetnsError) {
            let addresses = Set(missing.values.flatMap(\.keys))
            let inhabited = try kernel.namespaces.inhabited()
            var found = kernel.namespaces.find(addresses, among: inhabited)
            let rest = addresses.subtracting(found.keys)
            if !rest.isEmpty {
                found.merge(kernel.namespaces.find(rest, among: kernel.namespaces.named(besides: inhabited))) { $1 }
            }
            for (uid, addresses) in missing { attach(uid, addresses, found) }
        } catch {
            for uid in missing.keys { report("\(error)", of: uid) }
        }
        if wanted.keys.contains(where: { attached[$0] == nil }) { patience = min(patience * 2, 30) }
    }

    private mutating func attach(
        _ uid: String, _ addresses: [IPAddress: MeshPodProgram], _ found: [IPAddress: PodNamespaces.Finding]
    ) {
        var namespace: NetworkNamespace?
        for address in addresses.keys.sorted() {
            switch found[address] {
            case .found(let one): namespace = namespace ?? one
            case .ambiguous(let count):
                return report("its address \(address) is found in \(count) network namespaces of this node", of: uid)
            case nil: continue
            }
        }
        guard let namespace else {
            return report("no network namespace of this node has its address", of: uid)
        }
        let pod = SteeredPod(
            uid: uid, name: addresses.values.first?.name ?? uid, namespace: namespace, addresses: addresses)
        if attach(pod) { log.info("pod \(pod.name) is in the mesh: its tunnels come in") }
    }

    /// Also one that is attached: its connections go on.
    @discardableResult
    private mutating func attach(_ pod: SteeredPod) -> Bool {
        do throws(DataplaneError) {
            let listeners = try kernel.steering.attach(pod)
            let cookie = listeners.values.first.flatMap { PodSocket.namespaceCookie(of: $0) }
            attached[pod.uid] = Attached(pod: pod, cookie: cookie)
            problems[pod.uid] = nil
            mustTellClients = true
            for (address, listener) in listeners {
                namespaces.set(address, pod.namespace)
                sockets.add(address, listener: listener)
            }
            return true
        } catch {
            report("\(error)", of: pod.uid)
            return false
        }
    }

    private mutating func change(_ pod: SteeredPod) {
        guard let addresses = wanted[pod.uid] else { return }
        let changed = SteeredPod(uid: pod.uid, name: pod.name, namespace: pod.namespace, addresses: addresses)
        do throws(DataplaneError) {
            try kernel.steering.change(changed)
            attached[pod.uid]?.pod = changed
            problems[pod.uid] = nil
        } catch { report("\(error)", of: pod.uid) }
    }

    /// Nothing of ours keeps the namespace of one that is gone; of one that lives on connections do.
    private mutating func release(_ pod: SteeredPod, isGone: Bool = true) {
        for address in pod.addresses.keys {
            namespaces.set(address, nil)
            sockets.remove(address, isGone: isGone)
        }
        do throws(DataplaneError) { try kernel.steering.release(pod, keepingConnections: !isGone) } catch {
            log.warning("what steered pod \(pod.name) is not all removed: \(error)")
        }
        attached[pod.uid] = nil
        mustTellClients = true
        log.info("pod \(pod.name) has left the mesh")
    }

    private mutating func report(_ problem: String, of uid: String) {
        guard problems.updateValue(problem, forKey: uid) != problem else { return }
        let name = wanted[uid]?.values.first?.name ?? uid
        log.warning("pod \(name) of the mesh: \(problem)")
    }

    // MARK: Audit

    private mutating func audit() {
        // While one is missing nobody can say whose the others are: a pod must not open because it was not found.
        if missingAddresses.isEmpty {
            do throws(DataplaneError) { try kernel.steering.releaseOthers(than: attached.values.map(\.pod)) } catch {
                log.warning("\(error)")
            }
        }
        let inhabited = (try? kernel.namespaces.inhabited()) ?? []
        let ids = Set(inhabited.map(\.id))
        let moved = attached.values.filter { !ids.contains($0.pod.namespace.id) }
        let elsewhere = kernel.namespaces.find(Set(moved.flatMap(\.pod.addresses.keys)), among: inhabited)
        for one in moved where one.pod.addresses.keys.contains(where: { elsewhere[$0] != nil }) { release(one.pod) }
        for one in attached.values { audit(one.pod) }
        mustTellClients = true
    }

    private mutating func audit(_ pod: SteeredPod) {
        let stranger = kernel.steering.strangers(beside: pod).first
        let drift = kernel.steering.drift(of: pod)
        if let first = drift.first {
            log.warning("\(first); it is made good")
            attach(pod)
        }
        if let stranger { report(stranger.description, of: pod.uid) } else if drift.isEmpty { problems[pod.uid] = nil }
    }

    private mutating func tellClients() {
        guard mustTellClients else { return }
        var clients: [UInt64: [IPAddress]] = [:]
        for one in attached.values {
            if let cookie = one.cookie { clients[cookie] = one.pod.addresses.keys.sorted() }
        }
        do throws(DataplaneError) {
            mustTellClients = try !kernel.clients(clients, missingAddresses)
        } catch { log.warning("what pods of the mesh dial is not steered: \(error)") }
    }
}
