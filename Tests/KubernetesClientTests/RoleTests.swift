/// The role in deploy/ allows just what the client asks for.
import TestSupport
import Testing
import YAML

@testable import KubernetesClient

@Suite struct RoleTests {
    @Test func theClusterRoleHasTheVerbsThatAreUsed() throws {
        let allowed = try allowed()
        var used = ["/events": Set(["create"])]
        for resource in KubernetesSource.resources(.node("n"), proxyName: nil) + [.pods(of: "n")] {
            used["\(resource.group)/\(resource.plural)"] = ["get", "list", "watch"]
        }
        #expect(allowed == used)
    }

    /// `| get, list, watch: services, nodes | why |`
    @Test func thePageSaysWhatTheRoleAllows() throws {
        var told: [String: Set<String>] = [:]
        for line in try readFile("deploy/README.md").split(separator: "\n") where line.hasPrefix("| ") {
            let words = line.dropFirst(2).prefix { $0 != "|" }.split(separator: ":")
            guard words.count == 2, let verbs = words.first.map(names), verbs.isSubset(of: Self.verbs) else { continue }
            for resource in names(words[1]) { told[resource, default: []].formUnion(verbs) }
        }
        var allowedByName: [String: Set<String>] = [:]
        for (resource, verbs) in try allowed() {
            allowedByName[resource.split(separator: "/").last.map(String.init) ?? "", default: []].formUnion(verbs)
        }
        #expect(told == allowedByName)
    }
    private static let verbs: Set = ["get", "list", "watch", "create", "update", "patch", "delete"]

    private func names(_ text: Substring) -> Set<String> {
        Set(text.split(separator: ",").map { $0.filter { $0 != " " } })
    }

    /// `group/resource` to verbs.
    private func allowed() throws -> [String: Set<String>] {
        let text = try readFile("deploy/heddle.yaml")
        var rules: [YAMLNode] = []
        var stream = try YAMLStream(Array(text.utf8))
        while let document = stream.next() {
            let root = try document.get().root
            guard root["kind"]?.text == "ClusterRole" else { continue }
            rules = root["rules"]?.list ?? []
        }
        var allowed: [String: Set<String>] = [:]
        for rule in rules {
            for group in rule["apiGroups"]?.list ?? [] {
                for resource in rule["resources"]?.list ?? [] {
                    let verbs = rule["verbs"]?.list.map(\.text) ?? []
                    allowed["\(group.text)/\(resource.text)", default: []].formUnion(verbs)
                }
            }
        }
        return allowed
    }

    private func readFile(_ path: String) throws -> String {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        return readText("\(root)/\(path)")
    }
}

extension YAMLNode {
    fileprivate var list: [YAMLNode] { Array(elements) }
}
