/// The rules themselves: each must find what it is there for, and leave its look-alike alone.
import Testing

@Suite struct RuleTests {
    private func file(_ text: String, _ path: String = "Sources/Netns/Some.swift") -> SourceFile {
        SourceFile(path: path, text: "/// Some.\n\n\n\n" + text)
    }
    private func bans(_ text: String, _ path: String = "Sources/Netns/Some.swift") -> [String] {
        let file = file(text, path)
        return Ban.all.flatMap { ban in ban.findings(in: file).map { _ in ban.phrase } }
    }

    @Test(arguments: [
        ("let x = try! f()", "try!"), ("let x = y as! Int", "as!"), ("fatalError()", "fatalError"),
        ("Task { await f() }", "Task {"), ("Task.detached { }", "Task.detached"), ("print(1)", "print("),
        ("final class A: @unchecked Sendable {}", "@unchecked Sendable"),
        ("nonisolated(unsafe) var x = 1", "nonisolated(unsafe)"),
    ])
    func bannedWordsAreFound(code: String, phrase: String) { #expect(bans(code) == [phrase]) }

    @Test(arguments: [
        "// try! is not used", "let x = \"print(1)\"", "group.addTask { }", "footprint(1)", "let x = try f()",
        "/* fatalError\n fatalError */", "let x = \"\"\"\n  as!\n  \"\"\"", "let x = \"a \\(f(\"try!\")) b\"",
        "// Sound: immutable.\nfinal class A: @unchecked Sendable {}",
    ])
    func lookAlikesAreNot(code: String) { #expect(bans(code) == []) }

    @Test func sleepIsBannedInTestsOnly() {
        #expect(bans("usleep(1)", "Tests/NetnsTests/Some.swift") == ["usleep("])
        #expect(bans("Task.sleep(for: .seconds(1))", "Tests/NetnsTests/Some.swift") == ["sleep("])
        #expect(bans("usleep(1)", "Tests/Support/Eventually.swift") == [])
        #expect(bans("usleep(1)") == [])
    }

    @Test(arguments: [("let x = y!", 1), ("f()!.g()", 1), ("a[0]!", 1), ("if !x { }", 0), ("a != b", 0), ("x!=y", 0)])
    func forceUnwrapsAreFound(code: String, count: Int) { #expect(forceUnwraps(in: file(code)).count == count) }

    @Test func shapes() {
        let messages = { (text: String) in shape(of: SourceFile(path: "Sources/A/B.swift", text: text)).map(\.message) }
        #expect(messages("/// Good.\nlet x = 1") == [])
        #expect(messages("let x = 1").count == 1)
        #expect(shape(of: SourceFile(path: "Sources/A/Placeholder.swift", text: "// Empty.")).count == 1)
        #expect(messages("/// Good.\n" + String(repeating: "x", count: 121)).count == 1)
        #expect(messages("/// Good.\n\tlet x = 1") == ["a tab"])
        #expect(messages("/// Good.\n" + String(repeating: "let x = 1\n", count: 500)).count == 1)
    }

    @Test func longFunctionsAreFound() {
        let body = { (count: Int) in "func f() {\n" + String(repeating: "    g { h() }\n", count: count) + "}" }
        #expect(longFunctions(in: file(body(68))) == [])
        #expect(longFunctions(in: file("struct A {\n" + body(69) + "\n}")).map(\.line) == [6])
    }

    @Test func kernelStructsNeedTheirSize() {
        let header = "/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */\nstruct a {\n\t__u32 x;\n};\n"
        let findings = { (text: String) in kernelCode(in: SourceFile(path: "bpf/include/abi.h", text: text)) }
        #expect(findings(header).map(\.line) == [2])
        #expect(findings(header + "_Static_assert(sizeof(struct a) == 4, \"a\");") == [])
        #expect(findings("int x;").map(\.line) == [1])
    }

    @Test func citationsAreFound() {
        let text = SpecCitations.flowing([
            "/// Spec rows 30-34 and 77, like row 9; and (spec", "/// row 43), rows 132,",
            "// 133: throw 5, spec 6.2, Spec 1.10.",
            "func rows6To8And12_x() { rows47And49Bad() } // row by row", #"@Test("rows 1, 2, and 4: all")"#,
        ])
        #expect(
            SpecCitations.citedRows(in: text)
                == [30, 31, 32, 33, 34, 77, 9, 43, 132, 133, 6, 7, 8, 12, 47, 49, 1, 2, 4])
        #expect(SpecCitations.citedSections(in: text) == ["6.2", "1.10"])
        #expect(SpecCitations.rows("| row | rule |\n|---|---|\n| 1 | a |\n| 12 | b, c | 3 |\nrow 5") == [1, 12])
        #expect(SpecCitations.sections("## 1. A\n### 1.1 B\n### 1.10 C\ntext") == ["1.1", "1.10"])
    }

    @Test func scriptsAreRunnable() {
        let script = { (path: String, mode: Bool) in SourceFile(path: path, text: "#!/bin/bash\n", isExecutable: mode) }
        #expect(scriptModes(of: script("scripts/demo", false)).count == 1)
        #expect(scriptModes(of: script("scripts/demo", true)) == [])
        #expect(scriptModes(of: script("scripts/lib.sh", false)) == [])
    }

    @Test func importsAreHeldToTheTable() {
        let table = ModuleTable(
            packageFile: """
                func library(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target { }
                library("Cluster", ["Addressing"]),
                library("Netns", ["CLinux"], linker: [.linkedLibrary("mnl")]),
                library("AdminServer", nio),
                library("Agent", ["Netns", arguments, log]),
                library("Telemetry"),
                .executableTarget(name: "heddle-agent", dependencies: ["Agent"], swiftSettings: strict),
                tests("Netns", ["Netns"]),
                """)
        #expect(table.dependencies["Sources/AdminServer"] == ["NIOCore", "NIOPosix", "NIOHTTP1"])
        #expect(table.dependencies["Sources/Agent"] == ["Netns", "ArgumentParser", "Logging"])
        #expect(table.dependencies["Sources/Telemetry"] == [])
        #expect(table.dependencies["Sources/heddle-agent"] == ["Agent"])
        let isAllowed = { (code: String, path: String) in table.findings(in: SourceFile(path: path, text: code)) == [] }
        #expect(isAllowed("package import Addressing", "Sources/Cluster/A.swift"))
        #expect(!isAllowed("import Glibc", "Sources/Cluster/A.swift"))
        #expect(!isAllowed("@preconcurrency import Foundation", "Sources/Netns/A.swift"))
        #expect(!isAllowed("import struct Cluster.Service", "Sources/Netns/A.swift"))
        #expect(isAllowed("import CLinux\nimport Glibc", "Sources/Netns/A.swift"))
        #expect(isAllowed("import FoundationEssentials", "Sources/Agent/A.swift"))
        #expect(isAllowed("@testable import Netns\nimport Testing", "Tests/NetnsTests/A.swift"))
        #expect(table.layerFindings() == [])
        #expect(ModuleTable(packageFile: #"library("Netns", ["Agent"])"#).layerFindings().count == 1)
        #expect(ModuleTable(packageFile: #"library("New", [])"#).layerFindings().count == 1)
    }
}
