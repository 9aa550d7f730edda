// Arguments, environment and file in; configuration or a sentence that names the culprit out.
import Addressing
import Daemon
import NodeControl
import Options
import RouteIR
import Telemetry
import TestSupport
import Testing

@testable import Agent

@Suite struct AgentConfigurationTests {
    private static let source = ["--source", "manifests:/m"]

    private func parse(
        _ arguments: [String] = source, environment: [String: String] = [:], file: [ConfigurationEntry] = []
    ) throws(ConfigurationError) -> AgentConfiguration {
        let host = AgentConfiguration.Host(hostName: "host", environment: environment) { _ in file }
        return try AgentConfiguration.parse(arguments: arguments, host: host, needsSource: true)
    }

    private func complaint(
        _ arguments: [String], environment: [String: String] = [:], file: [ConfigurationEntry] = []
    ) -> String? {
        do throws(ConfigurationError) {
            _ = try parse(arguments, environment: environment, file: file)
            return nil
        } catch {
            return error.description
        }
    }

    @Test func defaultsAreTheContract() throws {
        let configuration = try parse()
        #expect(configuration.nodeName == "host")
        #expect(configuration.source == .manifests(directory: "/m"))
        #expect(configuration.dataplane == .auto && configuration.companion == .all && configuration.proxy == .spawn)
        #expect(configuration.metricsAddress.description == "127.0.0.1:10249")
        #expect(configuration.healthzAddress.description == "0.0.0.0:10256")
        #expect(configuration.nodePortAddresses == .primary)
        #expect(configuration.detectLocal == .clusterCIDR && configuration.clusterCIDRs.isEmpty)
        #expect(configuration.apiSocket == "/run/heddle/agent.sock")
        #expect(configuration.bpffs == "/sys/fs/bpf/heddle" && configuration.stateDirectory == "/var/lib/heddle")
    }

    @Test func theFlagWinsOverTheVariableOverTheFile() throws {
        let file = [
            ConfigurationEntry(key: "node-name", value: "file", line: 1),
            ConfigurationEntry(key: "log-level", value: "error", line: 2),
            ConfigurationEntry(key: "log-format", value: "json", line: 3),
        ]
        let configuration = try parse(
            Self.source + ["--node-name", "flag"],
            environment: ["HEDDLE_NODE_NAME": "variable", "HEDDLE_LOG_LEVEL": "debug", "HEDDLE_CONFIG": "f.yaml"],
            file: file)
        #expect(configuration.nodeName == "flag")
        #expect(configuration.logLevel == .debug)
        #expect(configuration.logFormat == .json)
    }

    @Test func theNodeNameFallsBackToNODENAME() throws {
        #expect(try parse(environment: ["NODE_NAME": "n"]).nodeName == "n")
    }

    @Test func insideAPodTheClusterIsTheSource() throws {
        let configuration = try parse([], environment: ["KUBERNETES_SERVICE_HOST": "10.96.0.1"])
        #expect(configuration.source == .kubernetes(kubeconfig: nil))
        #expect(complaint([])?.contains("--source manifests:DIR") == true)
    }

    @Test func valuesOfEveryKind() throws {
        let configuration = try parse(
            Self.source + [
                "--node-port-addresses=192.168.0.0/24,fd00::/64", "--cluster-cidr", "10.0.0.0/8", "--masquerade-all",
                "--detect-local", "bridge-interface:br0", "--min-sync-period", "1m30.5s", "--map-backends", "9",
                "--node-port-loopback=false", "--metrics-address", "[::1]:9",
            ])
        #expect(
            configuration.nodePortAddresses
                == .cidrs([IPPrefix("192.168.0.0/24"), IPPrefix("fd00::/64")].compactMap { $0 }))
        #expect(configuration.clusterCIDRs.map(\.description) == ["10.0.0.0/8"])
        #expect(configuration.masqueradeAll && !configuration.nodePortLoopback)
        #expect(configuration.detectLocal == .bridge("br0"))
        #expect(configuration.minSyncPeriod == .milliseconds(90_500))
        #expect(configuration.mapBackends == 9)
        #expect(configuration.metricsAddress.description == "[::1]:9")
    }

    @Test func theMeshIsOffUntilSomebodySigns() throws {
        #expect(try parse().nodeSettings.mesh == nil)
        for (text, authority) in [
            ("controller", AgentConfiguration.Authority.controller),
            ("directory:/var/lib/ca", .directory("/var/lib/ca")),
            ("istiod.istio-system.svc:15012", .address("istiod.istio-system.svc:15012")),
            ("[fd00::1]:15012", .address("[fd00::1]:15012")),
        ] {
            #expect(try parse(Self.source + ["--ca", text]).authority == authority)
        }
        let settings = try parse(
            Self.source + ["--ca", "controller", "--trust-domain", "td", "--trust-domain-aliases", "old.td,older"]
        ).nodeSettings
        #expect(settings.mesh == ProxyMesh(trustDomain: "td", aliases: ["old.td", "older"]))
    }

    @Test(arguments: [
        (["--nope"], "unknown option --nope"),
        (["stray"], "unexpected argument \"stray\""),
        (["--node-name"], "--node-name needs a value"),
        (["--log-level", "loud"], "--log-level: \"loud\" is not trace, debug"),
        (["--metrics-address", "here:80"], "--metrics-address: \"here:80\""),
        (["--metrics-address", "127.0.0.1:65536"], "--metrics-address"),
        (["--cluster-cidr", ""], "--cluster-cidr"),
        (["--cluster-cidr", "10.0.0.0/33"], "--cluster-cidr"),
        (["--cluster-cidr", "10.0.0.1"], "--cluster-cidr"),
        (["--node-port-addresses", "primary,10.0.0.0/8"], "--node-port-addresses"),
        (["--detect-local", "bridge-interface:"], "--detect-local"),
        (["--detect-local", "interface-prefix:sixteen-letters-x"], "--detect-local"),
        (["--min-sync-period", "5"], "--min-sync-period"),
        (["--min-sync-period", "-1s"], "--min-sync-period"),
        (["--min-sync-period", "2h"], "--min-sync-period"),
        (["--map-services", "0"], "--map-services"),
        (["--masquerade-all=yes"], "--masquerade-all"),
        (["--bpffs", "relative"], "--bpffs"),
        (["--source", "manifests:"], "--source"),
        (["--source", "etcd"], "--source"),
        (["--ca", "controller", "--proxy", "off"], "--ca needs the L7 proxy"),
        (["--ca", "istiod"], "--ca"),
        (["--ca", ":15012"], "--ca"),
        (["--ca", "istiod:0"], "--ca"),
        (["--ca", "directory:relative"], "--ca"),
        (["--ca-token-file", "token"], "--ca-token-file"),
        (["--trust-domain", "Cluster.Local"], "--trust-domain"),
        (["--trust-domain-aliases", "old.example,"], "--trust-domain-aliases"),
        (["--certificate-life", "1s"], "--certificate-life"),
    ])
    func badFlagsAreNamed(_ arguments: [String], _ expected: String) {
        let complaint = complaint(Self.source + arguments)
        #expect(complaint?.contains(expected) == true, "\(complaint ?? "accepted")")
    }

    @Test func badVariablesAndKeysAreNamedWithTheirPlace() {
        #expect(
            complaint(Self.source, environment: ["HEDDLE_DATAPLANE": "ipvs"])?
                .hasPrefix("HEDDLE_DATAPLANE: \"ipvs\" is not auto, ebpf or nftables") == true)
        let unknown = [ConfigurationEntry(key: "nodename", value: "x", line: 7)]
        #expect(
            complaint(Self.source + ["--config", "a.yaml"], file: unknown)?
                .hasPrefix("a.yaml:7: nodename: unknown key") == true)
        let bad = [ConfigurationEntry(key: "masquerade-all", value: "maybe", line: 2)]
        #expect(
            complaint(Self.source + ["--config", "a.yaml"], file: bad)?
                .hasPrefix("a.yaml:2: masquerade-all: \"maybe\"") == true)
    }

    @Test func variablesOfAServiceCalledHeddleAreNoSettings() throws {
        #expect(throws: Never.self) {
            try parse(environment: ["HEDDLE_SERVICE_HOST": "10.0.0.1", "HEDDLE_PORT": "tcp://10.0.0.1:80"])
        }
    }

    @Test func everyOptionIsInTheHelpAndInTheReadme() throws {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        let readme = readText(root + "/README.md")
        for option in AgentConfiguration.options.options {
            #expect(AgentConfiguration.usage.contains("  \(option.flag)"), "\(option.name)")
            let isThere = readme.contains("`\(option.flag)`") || readme.contains("\(option.flag) ")
            // kube-proxy's own names.
            #expect(isThere || option.name.hasPrefix("conntrack-"), "\(option.name)")
        }
    }

    @Test func theHelpSaysWhatTheDefaultsAre() throws {
        for (flag, value) in [
            ("proxy-port PORT", "15001"), ("min-sync-period DURATION", "10ms"), ("masquerade-bit N", "14"),
            ("conntrack-tcp-timeout-established DURATION", "24h"), ("conntrack-udp-timeout DURATION", "0"),
            ("healthz-address HOST:PORT", "0.0.0.0:10256"), ("detect-local cluster-cidr|", "cluster-cidr"),
            ("node-port-addresses CIDR", "primary"), ("log-format text|json", "text"), ("dataplane auto|", "auto"),
        ] {
            let text = AgentConfiguration.usage
            let start = try #require(text.firstRange(of: "  --\(flag)")?.upperBound)
            let end = text[start...].firstRange(of: "\n  --")?.lowerBound ?? text.endIndex
            #expect(text[start..<end].contains("(default: \(value))"), "\(flag): \(text[start..<end])")
        }
    }

    @Test func examplesInTheHelpAreRight() {
        let examples = AgentConfiguration.usage.split(separator: "\n").filter { $0.hasPrefix("  heddle-agent") }
        #expect(examples.count >= 3 && AgentConfiguration.usage.contains("\nExamples:\n"))
        for example in examples {
            let words = example.split(separator: " ").map(String.init).dropFirst()
            let host = AgentConfiguration.Host(hostName: "host", environment: [:]) { _ in
                [ConfigurationEntry(key: "source", value: "manifests:/m", line: 1)]
            }
            #expect(["run", "preflight"].contains(words.first ?? ""), "\(example)")
            #expect(throws: Never.self, "\(example)") {
                try AgentConfiguration.parse(
                    arguments: Array(words.dropFirst()), host: host, needsSource: words.first == "run")
            }
        }
    }
}
