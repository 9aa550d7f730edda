// What `agentctl analyze` says, in both forms, and with which status it ends.
import AdminAPI
import FoundationEssentials
import Glibc
import TestSupport
import Testing

@testable import AgentCommands

private let service = """
    apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: shop}
    spec: {ports: [{name: http, port: 80}]}

    """
private func route(_ rule: String, name: String = "r") -> String {
    """
    apiVersion: gateway.networking.k8s.io/v1
    kind: HTTPRoute
    metadata: {name: \(name), namespace: shop}
    spec:
      parentRefs: [{group: "", kind: Service, name: web}]
      rules: [{\(rule)}]

    """
}
private let clean = route("backendRefs: [{name: web, port: 80}]")
private let wrong = route(
    "matches: [{path: {type: RegularExpression, value: '/(a'}}], backendRefs: [{name: web, port: 80}]")
private let doubtful = route("backendRefs: [{name: web, port: 80, weight: 0}]")

/// A directory with these files, which goes in the end.
private final class Files {
    let path: String

    init(_ files: [String: String]) throws {
        var template = Array("/tmp/heddle-analyze-XXXXXX".utf8CString)
        path = try #require(mkdtemp(&template).map { String(cString: $0) })
        for (name, text) in files { try writeText(text, to: "\(path)/\(name)") }
    }
    deinit {
        for name in directoryEntries(path) { unlink("\(path)/\(name)") }
        rmdir(path)
    }
}

@Suite struct AnalyzeTests {
    private func result(_ files: [(String, String)], namespace: String = "default") -> Analysis.Result {
        var analysis = Analysis(namespace: namespace)
        for (name, text) in files { analysis.add(name, Array(text.utf8)) }
        return analysis.result()
    }

    /// 0: no errors; 1: some, or a file that cannot be read; 2: wrong usage.
    @Test func exitStatus() throws {
        let files = try Files([
            "clean.yaml": service + "---\n" + clean, "wrong.yml": wrong, "doubtful.json": doubtful, "notes.txt": "x: [",
        ])
        let status = { (arguments: String...) in
            AgentctlProgram.run(
                ["analyze"] + arguments.map { $0.contains(".") && !$0.hasPrefix("/") ? "\(files.path)/\($0)" : $0 })
        }
        #expect(status("clean.yaml") == 0 && status("clean.yaml", "--strict") == 0)
        #expect(status("clean.yaml", "-o", "json") == 0 && status("clean.yaml", "-o", "yaml") == 2)
        #expect(status("doubtful.json") == 0 && status("doubtful.json", "--strict") == 1)
        #expect(status("wrong.yml") == 1 && status("clean.yaml", "wrong.yml", "-o", "json") == 1)
        // A directory: its manifests and nothing else.
        #expect(status(files.path) == 1)
        #expect(status("missing.yaml") == 1)
        #expect(status() == 2 && status("clean.yaml", "--nope") == 2)
    }

    @Test func filesOrTheCluster() {
        #expect(AgentctlProgram.run(["analyze", "--cluster", "a.yaml"]) == 2)
        #expect(AgentctlProgram.run(["analyze", "--cluster", "--api-socket", "/nonexistent/controller.sock"]) == 1)
    }
    /// What the controller says is shown as what files say.
    @Test func theClusterLooksLikeFiles() {
        var answer = ClusterAnalysis()
        answer.entries = [
            .init(severity: "error", code: "no-parent", object: "HTTPRoute shop/r", field: "spec", message: "is away"),
            .init(severity: "warning", code: "two-meshes", object: "Namespace shop", field: "", message: "two"),
        ]
        (answer.objects, answer.errors, answer.warnings, answer.notes) = (7, 1, 4, ["3 more"])
        #expect(
            Analysis.Result(answer).text == """
                SEVERITY  CODE        OBJECT            FIELD  WHERE  WHAT
                error     no-parent   HTTPRoute shop/r  spec   -      is away
                warning   two-meshes  Namespace shop    -      -      two
                7 objects: 1 errors, 4 warnings
                note: 3 more

                """)
    }

    @Test func aDirectoryWithoutManifestsIsNoSuccess() throws {
        let files = try Files(["notes.txt": "x", ".hidden.yaml": wrong, "kustomization.yaml": "resources: []"])
        #expect(AgentctlProgram.run(["analyze", files.path]) == 1)
    }

    @Test func nothingWrong() {
        let result = result([("f.yaml", service + "---\n" + clean)])
        #expect(
            result.text == """
                2 objects: 0 errors, 0 warnings
                note: not judged: endpoints of 1 Services, of which no Pod or EndpointSlice was given

                """ || result.text == "2 objects: 0 errors, 0 warnings\n")
        #expect(result.entries.isEmpty && result.errors == 0 && result.warnings == 0 && result.objects == 2)
    }

    @Test func eachIsARowThatSaysWhere() {
        let result = result([
            ("a.yaml", service + "---\n" + wrong),
            ("b.yaml", route("backendRefs: [{name: web, port: 80, weight: 0}]", name: "s")),
        ])
        #expect(result.errors == 1 && result.warnings == 1 && result.objects == 3)
        let lines = result.text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        #expect(lines[0].split(separator: " ") == ["SEVERITY", "CODE", "OBJECT", "FIELD", "WHERE", "WHAT"])
        #expect(
            lines[1].hasPrefix(
                "error     invalid-regex  HTTPRoute shop/r  spec.rules[0].matches[0]   a.yaml:6  never matches"))
        #expect(
            lines[2].hasPrefix(
                "warning   no-weight      HTTPRoute shop/s  spec.rules[0].backendRefs  b.yaml:1  every weight is 0"))
        #expect(lines[3] == "3 objects: 1 errors, 1 warnings" && lines.last == "")
    }

    @Test func theSameAsJSON() throws {
        let result = result([("a.yaml", wrong + "---\n{apiVersion: v1, kind: Secret, metadata: {name: x}}")])
        let text = String(decoding: try JSONEncoder().encode(result), as: UTF8.self)
        struct Read: Decodable {
            struct Entry: Decodable {
                let severity, code, object, field, location, message: String
            }
            let entries: [Entry]
            let objects, errors, warnings: Int
            let notes: [String]
        }
        let read = try JSONDecoder().decode(Read.self, from: Data(text.utf8))
        let entry = try #require(read.entries.first)
        #expect(read.entries.count == 1 && read.objects == 1 && read.errors == 1 && read.warnings == 0)
        #expect(entry.severity == "error" && entry.code == "invalid-regex" && entry.object == "HTTPRoute shop/r")
        #expect(entry.field == "spec.rules[0].matches[0]" && entry.location == "a.yaml:1")
        #expect(entry.message.hasPrefix("never matches"))
        #expect(
            read.notes == [
                "not judged: Services that were not given (shop/web)", "1 kinds that Heddle does not read: Secret (v1)",
            ])
    }

    @Test func whatCannotBeReadIsAnError() throws {
        let entries = result([
            ("a.yaml", "kind: Service\nmetadata: {name: x}\n---\n\tx\n"),
            ("b.yaml", service.replacing("port: 80", with: "port: 0")),
        ])
        .entries
        #expect(entries.map(\.code) == ["undecodable", "undecodable", "undecodable"])
        #expect(entries.map(\.location) == ["a.yaml:1", "a.yaml:4", "b.yaml:4"])
        let port = try #require(entries.last)
        #expect(port.object == "Service shop/web" && port.field == "spec.ports[0].port" && port.severity == "error")
    }

    /// A part that is left out takes nothing else along.
    @Test func whatIsLeftOutIsAWarning() throws {
        let slice = """
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
            addressType: IPv4
            ports: [{name: http, port: 80}]
            endpoints: [{addresses: [10.1.0.1]}, {addresses: [nowhere]}]

            """
        let result = result([("a.yaml", service + "---\n" + slice)])
        let entry = try #require(result.entries.first)
        #expect(result.entries.count == 1 && entry.code == "left-out" && entry.severity == "warning")
        #expect(entry.field == "endpoints[1].addresses[0]" && result.errors == 0 && result.objects == 2)
    }

    /// The first is judged; where it is said.
    @Test func theSameObjectTwice() {
        let result = result([("a.yaml", clean), ("b.yaml", wrong)])
        #expect(result.entries.map(\.code) == ["given-twice"] && result.objects == 1)
        #expect(result.entries.first?.location == "b.yaml:1")
        #expect(result.entries.first?.message.contains("a.yaml:1") == true)
        // Of one name in two namespaces.
        let other = clean.replacing("namespace: shop", with: "namespace: b")
        #expect(self.result([("a.yaml", clean), ("b.yaml", other)]).entries.isEmpty)
        let once = self.result([("a.yaml", clean + "---\n" + clean)])
        #expect(once.entries.map(\.code) == ["given-twice"] && once.entries.map(\.location) == ["a.yaml:8"])
        #expect(once.objects == 1)
    }

    @Test func whoNamesNoNamespaceIsInTheDefault() {
        let text =
            service.replacing(", namespace: shop", with: "") + "---\n" + wrong.replacing(", namespace: shop", with: "")
        #expect(result([("a", text)]).entries.map(\.object) == ["HTTPRoute default/r"])
        #expect(result([("a", text)], namespace: "b").entries.map(\.object) == ["HTTPRoute b/r"])
    }

    @Test func aListIsReadLikeItsObjects() {
        let list =
            "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Service, metadata: {name: web}, "
            + "spec: {ports: [{port: 80}]}}]}"
        #expect(result([("a", list)]).objects == 1 && result([("a", list)]).entries.isEmpty)
        #expect(result([("a", "")]).objects == 0 && result([("a", "")]).entries.isEmpty)
    }
}
