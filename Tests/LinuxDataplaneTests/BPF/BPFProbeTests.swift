/// What preflight says about eBPF.
import LinuxDataplane
import TestSupport
import Testing

@Suite struct BPFProbeTests {
    @Test func aMissingFeatureComesWithItsRemedy() {
        let results = BPFProbe.run([
            BPFProbe.Check(name: "one", remedy: "do this") { nil },
            BPFProbe.Check(name: "two", remedy: "do that") { "it is not there" },
        ])
        #expect(
            results == [
                ProbeResult(name: "one", ok: true, detail: "works"),
                ProbeResult(name: "two", ok: false, detail: "it is not there; do that"),
            ])
    }

    @Test(.requiresKernel(.cgroup2, .bpf)) func thisKernelHasWhatIsNeeded() throws {
        let cgroup = try #require(Cgroup2.root)
        let results = BPFProbe.run(cgroup: cgroup, bpffs: "/sys/fs/bpf/hd-probe")
        #expect(results.filter { !$0.ok } == [])
        let wrong = BPFProbe.run(cgroup: "/tmp", bpffs: "/tmp/hd-probe").filter { !$0.ok }
        #expect(wrong.map(\.name) == ["cgroup v2 directory", "bpf file system"])
        // The remedy is said, and said once.
        for (result, remedy) in zip(wrong, ["--cgroup", "--bpffs"]) {
            #expect(result.detail.ranges(of: remedy).count == 1, "\(result.detail)")
        }
    }
}
