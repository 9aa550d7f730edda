// The controller accepts what deploy/ gives it, and serves where its Service leads.
import Addressing
import Daemon
import Options
import TestSupport
import Testing
import YAML

@testable import Controller

@Suite struct ControllerDeployTests {
    private static let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
    private let template = readText(root + "/deploy/helm/heddle/templates/controller.yaml")

    @Test func theDeploymentsArgumentsAndConfigurationAreValid() throws {
        let container = try #require(
            object("Deployment", "heddle-controller")["spec"]?["template"]?["spec"]?["containers"]?.list.first)
        let arguments = try #require(container["args"]).list.map(\.text)
        #expect(arguments.first == "run")
        let directory = try TemporaryDirectory()
        let file = directory.path + "/controller.yaml"
        try writeText(
            object("ConfigMap", "heddle-controller")["data"]?["controller.yaml"]?.text ?? "", to: file)
        let configuration = try ControllerConfiguration.parse(
            arguments: Array(arguments.dropFirst()), hostName: "host",
            environment: ["KUBERNETES_SERVICE_HOST": "10.96.0.1", "POD_NAMESPACE": "kube-system"],
            readFile: { (path) throws(OptionError) in
                guard path == "/etc/heddle/controller.yaml" else { throw OptionError("the file is not \(path)") }
                return try readConfigurationFile(file)
            })
        var ports: [String: String] = [:]
        for port in container["ports"]?.list ?? [] {
            ports[port["name"]?.text ?? ""] = port["containerPort"]?.text
        }
        let addresses = [
            "probes": configuration.healthzAddress, "metrics": configuration.metricsAddress,
            "webhook": configuration.webhookAddress, "ca": configuration.authorityAddress,
        ]
        #expect(ports == addresses.mapValues { "\($0.port)" })
        #expect(configuration.serviceNames.contains("heddle-controller.kube-system.svc"))
        let service = try object("Service", "heddle-controller")["spec"]?["ports"]?.list ?? []
        for port in service { #expect(ports[port["targetPort"]?.text ?? ""] != nil) }
    }

    /// Whatever the chart decides itself is an option, and what it passes is what it decides: the last of two would
    /// win.
    @Test func theChartKnowsOurOptions() throws {
        let line = try #require(template.split(separator: "\n").first { $0.contains(":= dict") })
        let words = line.split(separator: "\"")
        let decided = words.indices.filter { $0 % 4 == 1 }.map { String(words[$0]) }
        let passed = template.matches(of: /- (?:\{\{ printf ")?--([a-z-]+)=/).map { String($0.1) }
        #expect(decided.count >= 16 && passed.count >= 7)
        for name in decided { #expect(ControllerConfiguration.options[name] != nil, "\(name)") }
        for name in passed { #expect(decided.contains(name), "\(name)") }
    }

    private func object(_ kind: String, _ name: String) throws -> YAMLNode {
        var stream = try YAMLStream(Array(readText("\(Self.root)/deploy/heddle.yaml").utf8))
        while let document = stream.next() {
            let object = try document.get().root
            if object["kind"]?.text == kind, object["metadata"]?["name"]?.text == name { return object }
        }
        throw TestFailure("there is no \(kind) \(name) in deploy/heddle.yaml")
    }
}

extension YAMLNode {
    fileprivate var list: [YAMLNode] { Array(elements) }
}
