/// The table of threads in docs/architecture.md is what a running agent has.
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct ThreadTests {
    @Test func theTableOfThreadsIsTrue() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let manifests = try ManifestFolder()
            try manifests.write(TestService(name: "web", number: 10, pods: [try node.addPod("a")]))
            let agent = try RunningAgent(on: node, .nftables, manifests)
            let documented = try documentedThreads()
            let withAPIServer: Set = ["heddle-snapshot"]
            let expected = documented.subtracting(withAPIServer)
            #expect(documented.isSuperset(of: withAPIServer) && expected.count >= 7)
            let pid = try #require(Self.number(after: "\"pid\" : ", in: try agent.agentctl("status", "-o", "json")))
            try eventually("all threads run", within: .seconds(5)) {
                let found = try threads(of: pid)
                guard found.isSuperset(of: expected) else { throw TestFailure("only \(found.sorted())") }
                return true
            }
            #expect(try threads(of: pid) == expected)
        }
    }

    private static func number(after key: String, in text: String) -> Int? {
        text.firstRange(of: key).flatMap { Int(text[$0.upperBound...].prefix { $0.isNumber }) }
    }

    private func threads(of pid: Int) throws -> Set<String> {
        let path = "/proc/\(pid)/task"
        guard let directory = opendir(path) else { throw TestFailure.errno("opendir \(path)") }
        defer { closedir(directory) }
        var names: Set<String> = []
        while let entry = readdir(directory) {
            let task = withUnsafeBytes(of: entry.pointee.d_name) { raw in
                String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard Int(task) != nil else { continue }
            let name = String(readText("\(path)/\(task)/comm").prefix { $0 != "\n" })
            // Numbered, and cut by the kernel at either end.
            names.insert(name.hasPrefix("NIO-ELT-") ? "NIO-ELT-*" : name.contains("-qos") ? "*-qos*" : name)
        }
        return names
    }

    /// What stands in backticks in the first column.
    private func documentedThreads() throws -> Set<String> {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        let text = readText(root + "/docs/architecture.md")
        let table = try #require(text.firstRange(of: "\n## Threads\n").map { text[$0.upperBound...] })
        var names: Set<String> = []
        for line in table.split(separator: "\n").prefix(while: { $0.hasPrefix("|") }) {
            let cell = line.split(separator: "|").first ?? ""
            for (index, part) in cell.split(separator: "`", omittingEmptySubsequences: false).enumerated()
            where index % 2 == 1 { names.insert(String(part)) }
        }
        return names
    }
}
