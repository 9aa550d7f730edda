/// When a test of the kernel runs, is skipped, or fails because the kernel lacks what it should have.
import TestSupport
import Testing

@Suite struct KernelNeedTests {
    private typealias Version = KernelNeed.Version
    private let lacks = KernelNeed.Obstacle("it is not there", isForbidden: false)
    private let forbidden = KernelNeed.Obstacle("not for us", isForbidden: true)

    @Test func releasesAreRead() {
        #expect(Version(release: "6.1.0-50-cloud-amd64") == Version(6, 1))
        #expect(Version(release: "5.10-rc1") == Version(5, 10) && Version(release: "next") == nil)
        #expect(Version(5, 9) < Version(5, 18) && Version(5, 18) < Version(6, 1))
    }

    @Test func anOlderKernelSkips() {
        let old = KernelNeed.bpf.verdict(on: Version(5, 10), .required, obstacle: lacks)
        #expect(old == .skip("Linux 5.10 is older than Linux 6.1, which bpf needs"))
        // Also where it happens to work: nobody promised that.
        #expect(KernelNeed.bpf.verdict(on: Version(6, 0), .lenient, obstacle: nil) != .run)
        #expect(KernelNeed.bpf.verdict(on: Version(5, 10), .evenOlder, obstacle: nil) == .run)
        #expect(KernelNeed.nftables.verdict(on: Version(6, 1), .required, obstacle: nil) == .run)
    }

    @Test func aNewerKernelThatLacksItFails() {
        for strictness in [KernelNeed.Strictness.lenient, .required] {
            let verdict = KernelNeed.bpf.verdict(on: Version(6, 1), strictness, obstacle: lacks)
            #expect(verdict == .fail("it is not there"))
        }
    }

    @Test func whatIsForbiddenIsSkippedUnlessItIsRequired() {
        let need = KernelNeed.netns
        #expect(need.verdict(on: Version(6, 1), .lenient, obstacle: forbidden) == .skip("not for us"))
        #expect(need.verdict(on: Version(6, 1), .required, obstacle: forbidden) == .fail("not for us"))
    }
}
