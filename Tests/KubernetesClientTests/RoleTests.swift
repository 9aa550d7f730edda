/// The roles in deploy/ allow just what the client asks for.
import TestSupport
import Testing
import YAML

@testable import KubernetesClient

@Suite struct RoleTests {
    @Test func theClusterRoleHasTheVerbsThatAreUsed() throws {
        var used = ["/events": Set(["create"])]
        let resources =
            KubernetesSource.resources(.node("n"), proxyName: nil) + KubernetesSource.meshResources + [.pods(of: "n")]
        for resource in resources {
            used["\(resource.group)/\(resource.plural)"] = ["get", "list", "watch"]
        }
        #expect(try allowed("heddle") == used)
    }

    @Test func theControllersClusterRoleHasTheVerbsThatAreUsed() throws {
        var used = ["/events": Set(["create"])]
        for resource in KubernetesSource.resources(.controller, proxyName: nil) {
            used["\(resource.group)/\(resource.plural)"] = ["get", "list", "watch"]
        }
        for routes in ["httproutes", "grpcroutes"] {
            used["gateway.networking.k8s.io/\(routes)/status"] = ["patch"]
        }
        used["authentication.k8s.io/tokenreviews"] = ["create"]
        used["/pods"] = ["list", "watch"]
        used["admissionregistration.k8s.io/validatingwebhookconfigurations"] = ["get", "patch"]
        #expect(try allowed("heddle-controller") == used)
    }

    /// `| get, list, watch: services, nodes | why |`
    @Test func thePageSaysWhatTheRolesAllow() throws {
        var told: [String: Set<String>] = [:]
        for line in try readFile("deploy/README.md").split(separator: "\n") where line.hasPrefix("| ") {
            let words = line.dropFirst(2).prefix { $0 != "|" }.split(separator: ":")
            guard words.count == 2, let verbs = words.first.map(names), verbs.isSubset(of: Self.verbs) else { continue }
            for resource in names(words[1]) { told[resource, default: []].formUnion(verbs) }
        }
        var allowedByName: [String: Set<String>] = [:]
        for (resource, verbs) in try allowed(nil) {
            let name = resource[resource.index(after: resource.firstIndex(of: "/") ?? resource.startIndex)...]
            allowedByName[String(name), default: []].formUnion(verbs)
        }
        #expect(told == allowedByName)
    }
    private static let verbs: Set = ["get", "list", "watch", "create", "update", "patch", "delete"]

    private func names(_ text: Substring) -> Set<String> {
        Set(text.split(separator: ",").map { $0.filter { $0 != " " } })
    }

    /// `group/resource` to verbs, of the ClusterRole of this name; nil: of all roles there are.
    private func allowed(_ name: String?) throws -> [String: Set<String>] {
        let text = try readFile("deploy/heddle.yaml")
        var rules: [YAMLNode] = []
        var stream = try YAMLStream(Array(text.utf8))
        while let document = stream.next() {
            let root = try document.get().root
            let isAsked = name == nil || root["metadata"]?["name"]?.text == name
            guard root["kind"]?.text == "ClusterRole" || root["kind"]?.text == "Role" && name == nil, isAsked else {
                continue
            }
            rules += root["rules"]?.list ?? []
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
