// Which dataplane is taken, from what was asked for and what the kernel offers.
import Daemon
import LinuxDataplane
import Testing

@testable import Agent

@Suite struct DataplaneSelectionTests {
    private let good = ProbeResult(name: "nftables (IPv4)", ok: true, detail: "there")
    private let bad = ProbeResult(name: "cgroup hooks", ok: false, detail: "needs CAP_BPF")

    private func choose(
        _ dataplane: AgentConfiguration.DataplaneChoice, companion: AgentConfiguration.Companion = .all,
        ebpf: [ProbeResult], nftables: [ProbeResult]
    ) throws(StartupError) -> DataplaneSelection {
        var configuration = AgentConfiguration(nodeName: "n")
        configuration.dataplane = dataplane
        configuration.companion = companion
        return try .choose(configuration, KernelOffers(ebpf: ebpf, nftables: nftables))
    }

    @Test func autoPrefersEBPF() throws {
        let selection = try choose(.auto, ebpf: [good], nftables: [good])
        #expect(selection.kind == .ebpf && selection.companion == .all && selection.fallback == nil)
    }

    @Test func autoFallsBackAndSaysWhy() throws {
        let selection = try choose(.auto, ebpf: [good, bad], nftables: [good])
        #expect(selection.kind == .nftables && selection.companion == .off)
        #expect(selection.reason.contains("cgroup hooks"))
        let fallback = try #require(selection.fallback)
        #expect(fallback.contains("needs CAP_BPF") && fallback.contains("--dataplane nftables"))
        // Who asks for it gets no warning.
        #expect(try choose(.nftables, ebpf: [bad], nftables: [good]).fallback == nil)
    }

    @Test func aHostWithoutIPv6CanStillUseNftables() throws {
        let ipv6 = ProbeResult(name: "nftables (IPv6)", ok: false, detail: "no IPv6")
        #expect(try choose(.nftables, ebpf: [], nftables: [good, ipv6]).kind == .nftables)
        #expect(throws: StartupError.self) { try choose(.nftables, ebpf: [], nftables: [ipv6]) }
    }

    @Test func whatWasAskedForIsNotReplaced() {
        let error = #expect(throws: StartupError.self) { try choose(.ebpf, ebpf: [bad], nftables: [good]) }
        #expect(error?.description.contains("cgroup hooks: needs CAP_BPF") == true)
        #expect(throws: StartupError.self) { try choose(.nftables, ebpf: [good], nftables: [bad]) }
        #expect(throws: StartupError.self) { try choose(.auto, ebpf: [bad], nftables: [bad]) }
    }

    @Test func aMissingCompanionIsNotSilent() throws {
        let error = #expect(throws: StartupError.self) { try choose(.auto, ebpf: [good], nftables: [bad]) }
        #expect(error?.description.contains("--companion off") == true)
        #expect(try choose(.auto, companion: .off, ebpf: [good], nftables: [bad]).kind == .ebpf)
    }
}
