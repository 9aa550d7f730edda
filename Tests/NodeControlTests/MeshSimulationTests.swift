// Whole agents of a mesh in made-up worlds. A failure names its seed; HEDDLE_SEED repeats it.
import TestSupport
import Testing

@Suite struct MeshSimulationTests {
    @Test(arguments: 0..<20) func nothingIsLooserThanWhatIsKnown(_ number: UInt64) throws {
        let seed = SeededGenerator(for: "mesh simulation \(number)").seed
        var simulation = MeshSimulation(seed: seed)
        do { try simulation.run(steps: 300) } catch {
            Issue.record("HEDDLE_SEED=\(seed): \(error)")
        }
        #expect(simulation.writes > 0)
    }
}
