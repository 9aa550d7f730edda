/// Loading the real programs, and what is said when that fails.
import BPFPrograms
import Glibc
import TestSupport
import Testing

@testable import BPF

@Suite struct BPFObjectTests {
    @Test func lastMeaningfulLinesLeaveTheStatisticsOut() {
        let log = """
            0: R1=ctx() R10=fp0
            11: (85) call bpf_map_lookup_elem#1
            R2 unbounded memory access, make sure to bounds check any such access
            processed 54 insns (limit 1000000) max_states_per_insn 0 total_states 2 peak_states 2 mark_read 0
            -- END PROG LOAD LOG --
            """
        #expect(
            lastMeaningfulLines(log, count: 2)
                == "11: (85) call bpf_map_lookup_elem#1\n"
                + "R2 unbounded memory access, make sure to bounds check any such access")
        #expect(lastMeaningfulLines("") == "")
    }

    @Test func bytesThatAreNoObjectAreRefused() {
        let error = #expect(throws: BPFError.self) { _ = try BPFObject(name: "junk", image: [1, 2, 3, 4]) }
        #expect(error?.operation == "open the eBPF object junk")
    }

    @Test(.requiresKernel(.bpf)) func theProgramsLoad() throws {
        var object = try BPFObject(name: "heddle", image: BPFObjectImage.service.bytes)
        #expect(object.mapNames.contains("frontends"))
        try object.setMaxEntries("frontends", 100)
        try object.load()
        let map = try object.map("frontends")
        #expect(try map.mapSizes().maxEntries == 100)
        let program = try object.program("connect4")
        let ids = try program.mapIDsOfProgram()
        #expect(try ids.contains(map.mapID()))
        #expect(BPFDescriptor.program(id: try program.programID()) != nil)
        let missing = #expect(throws: BPFError.self) { try object.program("connect9") }
        #expect(missing?.code == ENOENT)
    }

    @Test(.requiresKernel(.bpf)) func aRefusedMapIsNamed() throws {
        var object = try BPFObject(name: "heddle", image: BPFObjectImage.service.bytes)
        try object.setMaxEntries("frontends", 0)
        let error = #expect(throws: BPFError.self) { try object.load() }
        #expect(error?.description.contains("frontends") == true)
    }
}
