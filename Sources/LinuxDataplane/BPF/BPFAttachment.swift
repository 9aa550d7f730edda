/// The programs of service.bpf.c at their hooks, and keeping them attached.
import BPF
import DataplaneIR
import Glibc
import Reconcile

extension CgroupHook {
    /// In the order in which they are attached. What shows the service again comes before what hides the backend: no
    /// reply is ever seen from a bare backend.
    static let all: [CgroupHook] = [
        .getsockopt, .sockOps, .recvmsg4, .recvmsg6, .getpeername4, .getpeername6, .sendmsg4, .sendmsg6, .connect4,
        .connect6,
    ]
    /// Every getsockopt(2) and every TCP connection passes these two: only where a proxy needs them.
    static func needed(by node: NodeProgram) -> [CgroupHook] {
        node.proxyListeners.isEmpty ? all.filter { $0 != .getsockopt && $0 != .sockOps } : all
    }
}

/// The links of all hooks to one cgroup.
struct BPFAttachment {
    private let directory: String
    private let cgroupPath: String
    private let programs: [String: BPFDescriptor]
    private let programIDs: [String: UInt32]
    private var links: [String: BPFLink] = [:]
    private var knownPins = KnownPins()
    /// What the last call of `ensure` has attached; nil: it failed, or there was none.
    private(set) var ensured: [CgroupHook]?

    init(pins: BPFPins, cgroup: String, programs: [String: BPFDescriptor]) throws(BPFError) {
        directory = pins.links
        cgroupPath = cgroup
        self.programs = programs
        var ids: [String: UInt32] = [:]
        for (name, program) in programs { ids[name] = try program.programID() }
        programIDs = ids
    }

    private func path(_ hook: CgroupHook) -> String { "\(directory)/\(hook.rawValue)" }
    func isPinned(_ hook: CgroupHook) throws(BPFError) -> Bool { try BPFDescriptor.pinned(at: path(hook)) != nil }

    /// Makes these hooks run our programs at our cgroup, pinned, and no others. A link that is there is updated in
    /// place: a call meets the old program or the new one. Returns how much had to be done.
    mutating func ensure(_ hooks: [CgroupHook], _ faults: FaultInjector) throws(BPFError) -> Int {
        ensured = nil
        knownPins = KnownPins()
        let cgroup = try openCgroup()
        try BPFFileSystem.makeDirectory(directory)
        var operations = 0
        for hook in hooks {
            guard let program = programs[hook.rawValue] else { continue }
            let pinned = try BPFDescriptor.pinned(at: path(hook))
            let link = links[hook.rawValue] ?? pinned.map { BPFLink($0) }
            if let link, isAttached(link, hook, cgroup) {
                if try link.state().program != programIDs[hook.rawValue] {
                    try faults.check("update link \(hook.rawValue)")
                    try link.update(to: program)
                    operations += 1
                }
                links[hook.rawValue] = link
            } else {
                try faults.check("attach \(hook.rawValue)")
                links[hook.rawValue] = try BPFLink.attach(program, to: cgroup, as: hook)
                operations += 1
            }
            operations += try pin(hook, over: pinned, faults)
        }
        for name in BPFFileSystem.names(in: directory) where !hooks.contains(where: { $0.rawValue == name }) {
            try BPFFileSystem.remove("\(directory)/\(name)")
            links[name] = nil
            operations += 1
        }
        ensured = hooks
        return operations
    }

    private func openCgroup() throws(BPFError) -> CgroupDirectory {
        do throws(BPFError) {
            return try CgroupDirectory(cgroupPath)
        } catch {
            let remedy = "pass an existing cgroup v2 directory with --cgroup"
            throw BPFError(error.operation, error.code, detail: (error.detail.map { "\($0); " } ?? "") + remedy)
        }
    }

    private func isAttached(_ link: BPFLink, _ hook: CgroupHook, _ cgroup: borrowing CgroupDirectory) -> Bool {
        guard let state = try? link.state() else { return false }
        return state.isAttached(as: hook, to: cgroup.id)
    }

    private func pin(_ hook: CgroupHook, over pinned: BPFDescriptor?, _ faults: FaultInjector) throws(BPFError) -> Int {
        guard let link = links[hook.rawValue] else { return 0 }
        if let pinned, try pinned.linkID() == link.descriptor.linkID() { return 0 }
        try faults.check("pin link \(hook.rawValue)")
        try link.descriptor.replacePin(at: path(hook))
        return 1
    }

    /// What is wrong with the links; empty: nothing.
    mutating func drift(_ hooks: [CgroupHook]) -> [Drift] {
        var drift: [Drift] = []
        let id = (try? CgroupDirectory(cgroupPath))?.id
        for hook in hooks {
            let object = "link \(hook.rawValue)"
            guard let link = links[hook.rawValue], let state = try? link.state() else {
                drift.append(Drift(object: object, detail: "is not attached"))
                continue
            }
            if id == nil {
                drift.append(Drift(object: object, detail: "cgroup \(cgroupPath) is gone"))
            } else if state.cgroup != id {
                drift.append(Drift(object: object, detail: "is detached from cgroup \(cgroupPath)"))
            } else if state.program != programIDs[hook.rawValue] {
                drift.append(Drift(object: object, detail: "runs program \(state.program), which is not ours"))
            }
            let pin = path(hook)
            let isPinned = knownPins.isRight(pin) {
                let pinned = try? BPFDescriptor.pinned(at: pin)
                return (try? pinned?.linkID()) == (try? link.descriptor.linkID())
            }
            if !isPinned {
                drift.append(Drift(object: object, detail: "is not pinned at \(path(hook))"))
            }
        }
        return drift
    }
}

extension FaultInjector {
    func check(_ operation: @autoclosure () -> String) throws(BPFError) {
        if let code = error(for: operation()) { throw BPFError(operation(), code) }
    }
}
