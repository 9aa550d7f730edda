/// The agent accepts what deploy/ gives it.
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
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        var stream = try YAMLStream(Array(readText("\(root)/deploy/heddle.yaml").utf8))
        var arguments: [String] = []
        var file = ""
        while let document = stream.next() {
            let object = try document.get().root
            switch object["kind"]?.text {
            case "ConfigMap": file = object["data"]?["agent.yaml"]?.text ?? ""
            case "DaemonSet":
                let container = object["spec"]?["template"]?["spec"]?["containers"]?.list.first
                arguments = container?["args"]?.list.map(\.text) ?? []
            default: break
            }
        }
        let directory = try TemporaryDirectory()
        try writeText(file, to: directory.path + "/agent.yaml")
        let place = try #require(arguments.firstIndex(of: "--config=/etc/heddle/agent.yaml"))
        arguments[place] = "--config=\(directory.path)/agent.yaml"
        #expect(arguments.removeFirst() == "run")
        let configuration = try AgentConfiguration.parse(arguments: arguments, host: host, needsSource: true)
        #expect(configuration.source == .kubernetes(kubeconfig: nil) && configuration.logFormat == .json)
        // Without a writable /proc/sys nothing may be asked of it.
        #expect(configuration.conntrack.sysctls(cores: 8).isEmpty)
    }
}

extension YAMLNode {
    fileprivate var list: [YAMLNode] { Array(elements) }
}
