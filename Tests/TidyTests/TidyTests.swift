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

    /// docs/spec holds what the code cites, each number once and none left out.
    @Test func whatIsCitedIsWritten() {
        let rows = SpecCitations.rows(readText(SourceTree.root + "/docs/spec/service-behaviour.md"))
        let sections = SpecCitations.sections(readText(SourceTree.root + "/docs/spec/l7-behaviour.md"))
        #expect(rows == Array(1...rows.count) && rows.count > 190)
        #expect(Set(sections).count == sections.count && sections.count > 25)
        var cited = 0
        for file in SourceTree.files where !file.path.hasPrefix("Tests/TidyTests/") {
            let text = SpecCitations.flowing(file.lines)
            let (citedRows, citedSections) = (SpecCitations.citedRows(in: text), SpecCitations.citedSections(in: text))
            cited += citedRows.count + citedSections.count
            #expect(Set(citedRows).subtracting(rows) == [], "rows, cited in \(file.path)")
            #expect(Set(citedSections).subtracting(sections) == [], "sections, cited in \(file.path)")
        }
        #expect(cited > 400)
    }

    /// `heddleVersion` is the version; whatever else tells one tells that.
    @Test func thereIsOneVersion() throws {
        let read = { (path: String) in readText(SourceTree.root + "/" + path) }
        let version = try #require(
            read("Sources/AdminAPI/AdminPath.swift").firstMatch(of: /heddleVersion = "(\d+\.\d+\.\d+)"/)?.1)
        for (path, text) in [
            ("deploy/helm/heddle/Chart.yaml", "\nversion: \(version)\nappVersion: \(version)\n"),
            ("docs/CHANGELOG.md", "\(version)"),
        ] { #expect(read(path).contains(text), "\(path)") }
        for path in ["deploy/Containerfile", "deploy/README.md", "deploy/heddle.yaml"] {
            let tags = read(path).matches(of: /heddle\/agent:(\d[\w.]*\w)/).map(\.1)
            #expect(!tags.isEmpty && Set(tags) == [version], "\(path)")
        }
    }

    /// The list of decisions says what the records are called, and leaves none out.
    @Test func decisionsAreListedByTheirTitles() {
        let directory = SourceTree.root + "/docs/decisions/"
        let rows = readText(directory + "README.md").matches(of: /\n\| \[\d{4}\]\(([a-z0-9-]+\.md)\) \| (.+) \|/)
        let names = directoryEntries(directory).filter { $0 != "README.md" }
        #expect(rows.map { String($0.1) } == names && rows.count >= 7)
        for row in rows { #expect(readText(directory + row.1).hasPrefix("# \(row.2)\n"), "\(row.1)") }
    }

    /// An exception for a file that is gone is a trap for the next file of that name.
    @Test func exceptionsAreStillNeeded() {
        let paths = Set(SourceTree.files.map(\.path))
        for ban in Ban.all {
            for path in ban.exceptions.keys { #expect(paths.contains(path), "\(ban.phrase): \(path)") }
        }
    }
}
