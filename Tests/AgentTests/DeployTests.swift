/// The agent accepts what deploy/ gives it.
import Addressing
import Daemon
import Options
import Telemetry
import TestSupport
import Testing
import YAML

@testable import Agent

@Suite struct DeployTests {
    private let host = AgentConfiguration.Host(
        hostName: "node-1", environment: ["KUBERNETES_SERVICE_HOST": "10.96.0.1"],
        readFile: { path throws(ConfigurationError) in try readConfigurationFile(path) })

    @Test func theDaemonSetsArgumentsAndConfigurationAreValid() throws {
        let (container, file) = try deployed()
        var arguments = container["args"]?.list.map(\.text) ?? []
        // Any other option would win over what people write into the configuration.
        #expect(arguments == ["run", "--config=/etc/heddle/agent.yaml"])
        let directory = try TemporaryDirectory()
        try writeText(file, to: directory.path + "/agent.yaml")
        arguments = ["--config=\(directory.path)/agent.yaml"]
        let configuration = try AgentConfiguration.parse(arguments: arguments, host: host, needsSource: true)
        #expect(configuration.source == .kubernetes(kubeconfig: nil) && configuration.logFormat == .json)
        // Without a writable /proc/sys nothing may be asked of it.
        #expect(configuration.conntrack.sysctls(cores: 8).isEmpty)
        // kube-proxy's ports are its own while it runs beside us.
        let ports = container["ports"]?.list ?? []
        #expect(ports.compactMap { $0["hostPort"]?.text }.allSatisfy { $0 != "10249" && $0 != "10256" })
        for name in ["livenessProbe", "readinessProbe"] {
            let probe = try #require(container[name]?["httpGet"])
            let port = ports.first { $0["name"]?.text == probe["port"]?.text }?["containerPort"]?.text ?? ""
            #expect(configuration.probeAddress == SocketAddress("\(probe["host"]?.text ?? ""):\(port)"))
        }
    }

    /// The chart takes every option in `config` but for those that it decides itself; and it decides those that it
    /// writes, because the agent refuses a key that is given twice.
    @Test func whatTheChartDecidesItselfAreTheOptionsThatItWrites() throws {
        let text = readText("\(Self.root)/deploy/helm/heddle/templates/config.yaml")
        let parts = text.split(separator: "\ndata:\n")
        let lines = parts[0].split(separator: "\n").prefix { !$0.contains(".Values.proxy.config") }
        let dicts = lines.filter { $0.contains(/elsewhere :?=/) }.dropLast()
        let names = dicts.flatMap { line in
            let words = line.split(separator: "\"")
            return words.indices.filter { $0 % 4 == 1 }.map { String(words[$0]) }
        }
        #expect(dicts.count == 2 && names.contains("source") && names.count >= 8)
        for name in names { #expect(AgentConfiguration.options[name] != nil, "\(name)") }
        let guarded = Set(names + text.matches(of: /hasKey \.Values\.config "([a-z-]+)"/).map { String($0.1) })
        let written = try #require(parts.last).matches(of: /\n    ([a-z-]+):/).map { String($0.1) }
        #expect(written.count >= 7)
        for key in written { #expect(guarded.contains(key), "\(key)") }
    }

    /// Kubernetes sets variables by the names of the namespace's Services unless it is told not to, and the agent takes
    /// options from variables: a Service `heddle-proxy` would give it `--proxy-port tcp://10.96.0.7:80`.
    @Test func noServiceGivesTheAgentAnOption() throws {
        let suffixes = ["_PORT", "_SERVICE_HOST"]
        let variables = AgentConfiguration.options.variables.filter { name in suffixes.contains { name.hasSuffix($0) } }
        #expect(variables == ["HEDDLE_PROXY_PORT"])
        #expect(try object("DaemonSet")["spec"]?["template"]?["spec"]?["enableServiceLinks"]?.text == "false")
    }

    /// What one node's agent may read is what somebody reads who has taken it over.
    @Test func theThreatModelSaysWhatTheRoleAllows() throws {
        var allowed: [[String]: Set<String>] = [:]
        for rule in try object("ClusterRole")["rules"]?.list ?? [] {
            let texts = { (key: String) in rule[key]?.list.compactMap(\.text) ?? [] }
            allowed[texts("verbs"), default: []].formUnion(texts("resources"))
        }
        let lines = readText("\(Self.root)/docs/SECURITY.md").split(separator: "\n")
        let row = try #require(lines.first { $0.hasPrefix("| a node, taken over |") })
        let parts = row.split(separator: "what it may create:").map { part in
            Set(part.matches(of: /`([a-z]+)`/).map { String($0.1) })
        }
        #expect(row.contains("may get, list and watch") && parts.count == 2)
        #expect(allowed == [["get", "list", "watch"]: parts[0], ["create"]: try #require(parts.last)])
    }

    private static let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()

    private func object(_ kind: String) throws -> YAMLNode {
        var stream = try YAMLStream(Array(readText("\(Self.root)/deploy/heddle.yaml").utf8))
        while let document = stream.next() {
            let object = try document.get().root
            if object["kind"]?.text == kind { return object }
        }
        throw TestFailure("there is no \(kind) in deploy/heddle.yaml")
    }
    /// The agent's container, and its configuration file.
    private func deployed() throws -> (YAMLNode, String) {
        let container = try object("DaemonSet")["spec"]?["template"]?["spec"]?["containers"]?.list.first
        return (try #require(container), try object("ConfigMap")["data"]?["agent.yaml"]?.text ?? "")
    }
}

extension YAMLNode {
    fileprivate var list: [YAMLNode] { Array(elements) }
}
