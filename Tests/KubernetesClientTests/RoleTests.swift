/// The role in deploy/ allows just what the client asks for.
import TestSupport
import Testing
import YAML

@testable import KubernetesClient

@Suite struct RoleTests {
    @Test func theClusterRoleHasTheVerbsThatAreUsed() throws {
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
        var used = ["/events": Set(["create"])]
        for resource in KubernetesSource.resources(nodeName: "n", proxyName: nil) + [.pods(of: "n")] {
            used["\(resource.group)/\(resource.plural)"] = ["get", "list", "watch"]
        }
        #expect(allowed == used)
    }

    private func readFile(_ path: String) throws -> String {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        return readText("\(root)/\(path)")
    }
}

extension YAMLNode {
    fileprivate var list: [YAMLNode] { Array(elements) }
}
