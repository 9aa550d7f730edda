/// The canary gets through while connections to services are translated, and tells what is wrong when they are not.
import Addressing
import BPF
import CLinux
import DataplaneIR
import Glibc
import LinuxDataplane
import Netns
import Posix
import Reconcile
import Testing
import TestSupport

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct CanaryTests {
    private func isFailed(_ result: CanaryResult) -> Bool {
        if case .failed = result { true } else { false }
    }

    @Test(arguments: AddressFamily.allCases) func itSeesWhatBecomesOfTheHooks(family: AddressFamily) throws {
        try BPFTestNode.with { test in
            try test.node.namespace().run {
                let probe = try CanaryProbe(family)
                let cgroup = test.options.cgroup
                // Beside the node's, below no program of ours.
                let other = cgroup + "-other"
                #expect(mkdir(other, 0o755) == 0)
                defer {
                    CanaryProbe.removeChild(of: other)
                    rmdir(other)
                }
                #expect(isFailed(probe.probe(cgroup: cgroup)), "nothing is written yet")
                try test.applyAll(Canary.programs)
                #expect(probe.probe(cgroup: cgroup) == .passed)
                let connect = "connect\(family.rawValue)"
                for name in [connect, "getpeername\(family.rawValue)"] {
                    let link = try #require(try BPFDescriptor.pinned(at: "\(test.options.bpffs)/links/\(name)"))
                    try BPFLink(link).detach()
                    #expect(isFailed(probe.probe(cgroup: cgroup)), "\(name) is detached")
                    try test.applyAgain()
                    #expect(probe.probe(cgroup: cgroup) == .passed)
                }
                #expect(isFailed(probe.probe(cgroup: other)), "a cgroup without our programs")
                #expect(isFailed(probe.probe(cgroup: cgroup + "/gone")), "no such cgroup")
                CanaryProbe.removeChild(of: cgroup)
                #expect(access(cgroup + "/heddle-canary", F_OK) != 0)
            }
        }
    }

    /// Copying a process makes each of its pages that is written afterwards a fault.
    @Test func itCostsALargeProcessNoMoreThanASmallOne() throws {
        try Lab.with { lab in
            try lab.addNode().namespace().run {
                let (page, pages) = (Int(getpagesize()), 16_384)
                let (protection, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
                let memory = try #require(mmap(nil, page * pages, protection, flags, -1, 0))
                try #require(memory != MAP_FAILED)
                defer { munmap(memory, page * pages) }
                // One page is one fault.
                madvise(memory, page * pages, MADV_NOHUGEPAGE)
                let faults = { () -> Int in
                    for index in 0..<pages { memory.storeBytes(of: 1, toByteOffset: index * page, as: UInt8.self) }
                    var usage = rusage()
                    let thisThread: Int32 = 1  // RUSAGE_THREAD
                    getrusage(thisThread, &usage)
                    return usage.ru_minflt
                }
                #expect(faults() >= pages)
                let probe = try CanaryProbe(.ipv4)
                let before = faults()
                #expect(isFailed(probe.probe(cgroup: nil)), "nobody translates here")
                #expect(faults() - before < pages / 8)
            }
        }
    }

    /// Three in one process, which is killed while the second waits.
    @Test func whatAKilledProcessFoundOutStaysTrue() throws {
        try Lab.with { lab in
            let cgroup = try lab.addNode().host.cgroup
            let (nobody, silent) = (try TestBackend("nobody"), try TestBackend("silent") { _ in .silence })
            defer { silent.stop() }
            nobody.stop()
            let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
            defer { close(listener) }
            try #require(listen(listener, 1) == 0)
            let canaries = [nobody.address, silent.address, silent.address].map { address in
                let name = address.sockaddrBytes
                let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: name.count, alignment: 8)
                copy.copyBytes(from: name)
                var canary = clinux_canary()
                (canary.to, canary.size) = (UnsafeRawPointer(copy.baseAddress), UInt32(copy.count))
                (canary.listener, canary.timeout_ms) = (listener, 30_000)
                return canary
            }
            defer { for canary in canaries { UnsafeMutableRawPointer(mutating: canary.to)?.deallocate() } }
            // This thread waits for the process.
            try startThread {
                try? eventually("the second is visited", within: .seconds(30)) { silent.connections == 1 }
                for pid in (try? CgroupTree(path: cgroup).processes()) ?? [] { kill(pid, SIGKILL) }
            }
            var reports = canaries.map { _ in clinux_canary_report() }
            #expect(clinux_canaries_run(cgroup + "/cgroup.procs", canaries, &reports, Int32(canaries.count)) == 0)
            let steps = reports.map { UInt32($0.step) }
            #expect(steps == [CLINUX_CANARY_CONNECT, CLINUX_CANARY_KILLED, CLINUX_CANARY_KILLED].map(\.rawValue))
            #expect(reports.map(\.error) == [ECONNREFUSED, 0, 0])
        }
    }

    /// The same programs, attached nearer to the process by somebody else and with another backend.
    @Test func itSeesAForeignProgramThatAnswersFirst() throws {
        try BPFTestNode.with { test in
            try test.node.namespace().run {
                let probe = try CanaryProbe(.ipv4)
                let cgroup = test.options.cgroup
                try test.applyAll(Canary.programs)
                #expect(probe.probe(cgroup: cgroup) == .passed)
                let other = try TestBackend("other")
                defer { other.stop() }
                let options = BPFDataplaneOptions(
                    cgroup: cgroup + "/heddle-canary", bpffs: test.options.bpffs + "-other", nodeName: "other")
                let program = BPFService(
                    frontends: [Frontend(.externalIP, Canary.addresses(.ipv4).dialled.address, 1)],
                    cluster: [other.address]
                ).program
                let node = NodeProgram(nodeName: "other")
                let plan = Plan(generation: 1, node: node, upserts: [program], removals: [], isFull: true)
                // Only its pins keep it in force.
                try { _ = try BPFDataplane(options: options).apply(plan) }()
                #expect(isFailed(probe.probe(cgroup: cgroup)))
                // The kernel lets go of a link some time after its last pin has gone.
                _ = try BPFCleanup.run(bpffs: options.bpffs)
                try eventually("ours answer again") { probe.probe(cgroup: cgroup) == .passed }
            }
        }
    }

    /// Rules of somebody else that come first, and ours gone. IPv6 has no other loopback address to be sent to.
    @Test(arguments: [
        "nft flush ruleset", "nft flush chain ip heddle nat-output",
        "nft 'add table ip other; add chain ip other out { type nat hook output priority -150; };"
            + " add rule ip other out ip daddr 127.127.127.127 tcp dport 1 dnat to 127.0.0.1:9'",
        "nft 'add table ip other; add chain ip other out { type filter hook output priority -150; };"
            + " add rule ip other out ip daddr 127.127.127.127 drop'",
        "nft delete table ip6 heddle",
    ])
    func itSeesWhatBecomesOfTheRules(damage: String) throws {
        try Lab.with { lab in
            try lab.addNode().namespace().run {
                let probes = try AddressFamily.allCases.map { try CanaryProbe($0) }
                let feeder = PlanFeeder(try NftablesDataplane())
                try feeder.apply(programs: Canary.programs, full: true)
                #expect(probes.map { $0.probe(cgroup: nil) } == [.passed, .passed])
                #expect(CanaryProbe.probe(probes, cgroup: nil) == [.passed, .passed])
                try shell(damage)
                let results = CanaryProbe.probe(probes, cgroup: nil)
                #expect(results.contains(where: isFailed), "\(results)")
                // One process, but each its own result.
                if damage.hasSuffix("delete table ip6 heddle") { #expect(results.first == .passed) }
            }
        }
    }
}
