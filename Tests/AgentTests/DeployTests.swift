/// The agent accepts what deploy/ gives it.
import Addressing
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

    /// The chart takes every option in `config`, but for those that it decides itself: they must be some.
    @Test func whatTheChartDecidesItselfAreOptions() throws {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        let lines = readText("\(root)/deploy/helm/heddle/templates/config.yaml").split(separator: "\n")
        let words = try #require(lines.first { $0.contains("$elsewhere := dict") }).split(separator: "\"")
        let names = words.indices.filter { $0 % 4 == 1 }.map { String(words[$0]) }
        #expect(names.contains("source") && names.count >= 6)
        for name in names { #expect(AgentConfiguration.options[name] != nil, "\(name)") }
    }

    /// The agent's container, and its configuration file.
    private func deployed() throws -> (YAMLNode, String) {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        var stream = try YAMLStream(Array(readText("\(root)/deploy/heddle.yaml").utf8))
        var container: YAMLNode?
        var file = ""
        while let document = stream.next() {
            let object = try document.get().root
            switch object["kind"]?.text {
            case "ConfigMap": file = object["data"]?["agent.yaml"]?.text ?? ""
            case "DaemonSet": container = object["spec"]?["template"]?["spec"]?["containers"]?.list.first
            default: break
            }
        }
        return (try #require(container), file)
    }
}

extension YAMLNode {
    fileprivate var list: [YAMLNode] { Array(elements) }
}
