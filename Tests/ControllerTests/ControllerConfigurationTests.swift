// Arguments and environment in, a configuration or a sentence out.
import Addressing
import CertificateAuthority
import Options
import Telemetry
import Testing

@testable import Controller

@Suite struct ControllerConfigurationTests {
    private func parse(
        _ arguments: [String], _ environment: [String: String] = ["KUBERNETES_SERVICE_HOST": "10.0.0.1"],
        file: [ConfigurationEntry] = []
    ) throws(OptionError) -> ControllerConfiguration {
        try ControllerConfiguration.parse(
            arguments: arguments, hostName: "host", environment: environment,
            readFile: { (_) throws(OptionError) in file })
    }

    /// In a pod nothing has to be given.
    @Test func thePodSaysWhoItIs() throws {
        #expect(try parse([]).identity == "host")
        let pod = ["KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAME": "heddle-controller-7d4-x"]
        #expect(try parse([], pod).identity == "heddle-controller-7d4-x")
        #expect(try parse(["--identity", "mine"], pod).identity == "mine")
        #expect(try parse([]).healthzAddress == SocketAddress("0.0.0.0:10257"))
        #expect(try parse([]).metricsAddress == SocketAddress("0.0.0.0:10259"))
    }

    /// Kubelet asks at the pod's address.
    @Test func aPodOfIPv6OnlyIsAskedThere() throws {
        var pod = ["KUBERNETES_SERVICE_HOST": "fd00::1", "POD_IP": "fd00:1::7"]
        #expect(try parse([], pod).healthzAddress == SocketAddress("[::]:10257"))
        #expect(try parse([], pod).metricsAddress == SocketAddress("[::]:10259"))
        #expect(try parse([], pod).webhookAddress == SocketAddress("[::]:10260"))
        #expect(try parse(["--healthz-address", "127.0.0.1:1"], pod).healthzAddress == SocketAddress("127.0.0.1:1"))
        pod["POD_IP"] = "10.1.0.7"
        #expect(try parse([], pod).healthzAddress == SocketAddress("0.0.0.0:10257"))
    }

    /// The agent's variables are not the controller's: both may run in one environment.
    @Test func flagsWinOverItsOwnVariablesAndTheseOverTheFile() throws {
        let file = [ConfigurationEntry(key: "log-format", value: "json", line: 1)]
        var environment = ["KUBERNETES_SERVICE_HOST": "10.0.0.1", "HEDDLE_LOG_FORMAT": "nonsense"]
        #expect(try parse(["--config=f"], environment, file: file).logFormat == .json)
        environment["HEDDLE_CONTROLLER_LOG_FORMAT"] = "text"
        #expect(try parse(["--config=f"], environment, file: file).logFormat == .text)
        #expect(try parse(["--config=f", "--log-format=json"], environment, file: file).logFormat == .json)
    }

    @Test(arguments: [
        (["--identiti", "a"], "unknown option --identiti, see heddle-controller --help; did you mean --identity?"),
        (["--api-socket", "x"], "--api-socket: \"x\" is not an absolute path of at most 107 bytes"),
        (
            ["--log-level", "loud"],
            "--log-level: \"loud\" is not trace, debug, info, notice, warning, error or critical"
        ),
    ])
    func whatIsRefusedIsExplained(arguments: [String], sentence: String) {
        let error = #expect(throws: OptionError.self) { try parse(arguments) }
        #expect(error?.description == sentence)
    }

    /// Who asks for others is the agents' account unless told otherwise.
    @Test func theAuthorityKnowsItsNamesAndTheAgents() throws {
        let pod = ["KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAMESPACE": "mesh"]
        let standard = try parse([], pod)
        #expect(standard.authority == .on && standard.nodeAccounts.map(\.description) == ["mesh/heddle"])
        #expect(
            standard.serviceNames == [
                "heddle-controller", "heddle-controller.mesh", "heddle-controller.mesh.svc",
                "heddle-controller.mesh.svc.cluster.local",
            ])
        let other = try parse(["--ca=off", "--ca-node-accounts", "istio-system/ztunnel,mesh/agents"], pod)
        #expect(other.authority == .off)
        #expect(other.nodeAccounts.map(\.description) == ["istio-system/ztunnel", "mesh/agents"])
        for wrong in [["--ca-node-accounts", "ztunnel"], ["--ca-node-accounts", "a/b,"], ["--trust-domain", "A/b"]] {
            #expect(throws: OptionError.self, "\(wrong)") { try parse(wrong, pod) }
        }
    }

    @Test func outsideAPodAKubeconfigIsWanted() throws {
        let error = #expect(throws: OptionError.self) { try parse([], [:]) }
        #expect(
            error?.description == "this is not a pod, so there is no cluster to ask; pass --kubeconfig PATH")
        #expect(try parse(["--kubeconfig", "k"], [:]).kubeconfig == "k")
    }

    @Test func everyExampleInTheHelpIsRight() throws {
        let examples = ControllerConfiguration.usage.split(separator: "\n").filter {
            $0.hasPrefix("  heddle-controller run --")
        }
        #expect(examples.count == 2)
        for example in examples {
            let words = example.split(separator: " ").dropFirst(2).map(String.init)
            #expect(throws: Never.self, "\(example)") { try parse(words) }
        }
    }
}
