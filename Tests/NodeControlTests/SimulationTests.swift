// Whole agents in made-up worlds. A failure names its seed; HEDDLE_SEED repeats it.
import TestSupport
import Testing

@Suite struct SimulationTests {
    /// Ten worlds a run, others each time.
    @Test(arguments: 0..<10) func anAgentKeepsItsPromises(_ number: UInt64) throws {
        let seed = SeededGenerator(for: "simulation \(number)").seed
        var simulation = Simulation(seed: seed)
        do { try simulation.run(steps: 400) } catch {
            Issue.record("HEDDLE_SEED=\(seed): \(error)")
        }
        #expect(simulation.plans > 0)
    }
}
