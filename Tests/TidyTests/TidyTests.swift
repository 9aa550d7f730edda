/// Reads the whole tree and holds it to the house rules. What can be checked by a machine is not discussed in reviews.
import TestSupport
import Testing

@Suite struct TidyTests {
    private static let modules = ModuleTable(packageFile: readText(SourceTree.root + "/Package.swift"))

    @Test func theTreeIsFound() {
        #expect(SourceTree.files.count > 50)
        #expect(Self.modules.dependencies["Sources/Compile"] == ["Addressing", "Cluster", "DataplaneIR", "RouteIR"])
    }

    @Test func importsFollowTheModuleTable() {
        #expect(SourceTree.files.flatMap(Self.modules.findings) == [])
        #expect(Self.modules.layerFindings() == [])
    }

    @Test(arguments: Ban.all.indices) func bannedWordsStayOut(index: Int) {
        #expect(SourceTree.files.flatMap(Ban.all[index].findings) == [])
    }

    @Test func nothingIsForceUnwrapped() { #expect(SourceTree.files.flatMap(forceUnwraps) == []) }
    @Test func filesHaveOneIdea() { #expect(SourceTree.files.flatMap(shape) == []) }
    @Test func functionsAreShort() { #expect(SourceTree.files.flatMap(longFunctions) == []) }
    @Test func kernelCodeIsPinned() { #expect(SourceTree.files.flatMap(kernelCode) == []) }
    @Test func scriptsCanBeRun() { #expect(SourceTree.files.flatMap(scriptModes) == []) }

    /// An exception for a file that is gone is a trap for the next file of that name.
    @Test func exceptionsAreStillNeeded() {
        let paths = Set(SourceTree.files.map(\.path))
        for ban in Ban.all {
            for path in ban.exceptions.keys { #expect(paths.contains(path), "\(ban.phrase): \(path)") }
        }
    }
}
