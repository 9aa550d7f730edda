/// What the controller was asked to do, and every option of `heddle-controller`: flag, environment variable, key of the
/// configuration file, default and help follow from its line.
import Addressing
import AdminAPI
import CertificateAuthority
import Daemon
import Options
import Posix
import Telemetry

struct ControllerConfiguration: Equatable, Sendable {
    /// nil: the pod's own ServiceAccount.
    var kubeconfig: String?
    var file: String?
    /// Of this replica; never empty once parsed.
    var identity = ""
    /// Of the Lease by which one of the replicas leads; never empty once parsed.
    var leaseNamespace = ""
    var leaseName = "heddle-controller"
    var healthzAddress = SocketAddress(IPAddress(v4: 0), 10257)
    var metricsAddress = SocketAddress(IPAddress(v4: 0), 10259)
    /// Labels of the agents' pods, in the namespace of the Lease, and the port of their health servers.
    var agentSelector = "app.kubernetes.io/name=heddle"
    var agentPort: UInt16 = 10256
    var apiSocket = AdminPath.controllerSocket
    /// Of the Service that leads here, in the namespace of the Lease: what clients of the doors call us.
    var serviceName = "heddle-controller"
    var authority = Switched.on
    var authorityAddress = SocketAddress(IPAddress(v4: 0), 15012)
    var trustDomain = "cluster.local"
    /// Never empty once parsed.
    var nodeAccounts: [ServiceAccount] = []
    var webhook = Switched.on
    var webhookAddress = SocketAddress(IPAddress(v4: 0), 10260)
    /// nil: the services without that label.
    var serviceProxyName: String?
    var logLevel = LogLevel.info
    var logFormat = LogLine.Format.text

    enum Switched: String, CaseIterable, Sendable {
        case on, off
    }

    /// The names of the Service, from the shortest to the longest.
    var serviceNames: [String] {
        let inNamespace = "\(serviceName).\(leaseNamespace)"
        return [serviceName, inNamespace, "\(inNamespace).svc", "\(inNamespace).svc.cluster.local"]
    }

    static let options: OptionTable<ControllerConfiguration> = {
        var table = OptionTable(
            program: "heddle-controller", variables: "HEDDLE_CONTROLLER_", file: "config",
            defaults: ControllerConfiguration())
        table.add("kubeconfig", .text("PATH", wanted: "a path"), \.kubeconfig, "the cluster, outside a pod")
        table.add(
            "identity", .text("NAME", wanted: "a name"), \.identity, "this replica's name",
            fallback: "$POD_NAME, else the host name")
        table.add(
            "lease-namespace", .text("NAME", wanted: "a namespace"), \.leaseNamespace,
            "where the Lease is by which one of the replicas leads", fallback: "$POD_NAMESPACE, else kube-system")
        table.add("lease-name", .text("NAME", wanted: "a name"), \.leaseName, "its name, one for all replicas")
        table.add(
            "healthz-address", .address(like: "0.0.0.0:10257"), \.healthzAddress, "/healthz, /livez, /readyz")
        table.add("metrics-address", .address(like: "0.0.0.0:10259"), \.metricsAddress, "/metrics")
        table.add(
            "agent-selector", .text("LABELS", wanted: "labels"), \.agentSelector,
            "the agents' pods, in the namespace of the Lease, which are asked how far their nodes are")
        table.add("agent-port", .port, \.agentPort, "of the agents' --healthz-address")
        table.add("api-socket", .path(ofAtMost: UnixSocket.longestPath), \.apiSocket, "admin socket")
        table.add(
            "service-name", .text("NAME", wanted: "a name"), \.serviceName,
            "the Service that leads here, in the namespace of the Lease")
        table.add("ca", .choice, \.authority, "the certificate authority for workloads")
        table.add("ca-address", .address(like: "0.0.0.0:15012"), \.authorityAddress, "where it is asked, by gRPC")
        table.add("trust-domain", .trustDomain, \.trustDomain, "of the identities in certificates")
        table.add(
            "ca-node-accounts", .accounts, \.nodeAccounts,
            "ServiceAccounts of proxies of nodes, which may ask for the workloads beside them",
            fallback: "heddle in the namespace of the Lease")
        table.add("webhook", .choice, \.webhook, "objects are judged before the API server takes them")
        table.add("webhook-address", .address(like: "0.0.0.0:10260"), \.webhookAddress, "where it asks")
        table.add(
            "service-proxy-name", .text("NAME", wanted: "a label value"), \.serviceProxyName,
            "as the agents': only Services whose label service.kubernetes.io/service-proxy-name is this")
        table.add(
            "log-level", .choice.called("LEVEL"), \.logLevel, "trace, debug, info, notice, warning, error or critical")
        table.add("log-format", .choice, \.logFormat, "")
        table.add(
            "config", .text("FILE", wanted: "a path"), \.file,
            "YAML with the same names; flags and environment win over it")
        return table
    }()

    /// Beside those of the options.
    static let variables = [
        "POD_NAME", "POD_NAMESPACE", "POD_IP", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT",
    ]

    static func parse(
        arguments: [String], hostName: String, environment: [String: String],
        readFile: (String) throws(OptionError) -> [ConfigurationEntry]
    ) throws(OptionError) -> Self {
        var configuration = try options.settings(arguments: arguments, environment: environment, readFile: readFile)
        if configuration.identity.isEmpty { configuration.identity = environment["POD_NAME"] ?? hostName }
        guard !configuration.identity.isEmpty else {
            throw OptionError("this replica has no name; pass --identity, or set POD_NAME to the pod's metadata.name")
        }
        if configuration.leaseNamespace.isEmpty {
            configuration.leaseNamespace = environment["POD_NAMESPACE"] ?? "kube-system"
        }
        if configuration.nodeAccounts.isEmpty {
            let agents = ServiceAccount(namespace: configuration.leaseNamespace, name: "heddle")
            configuration.nodeAccounts = [agents].compactMap(\.self)
        }
        // Such a pod has no other address at which it could be asked.
        if IPAddress(environment["POD_IP"] ?? "")?.family == .ipv6 {
            for address in [\Self.healthzAddress, \.metricsAddress, \.authorityAddress, \.webhookAddress]
            where configuration[keyPath: address].address == IPAddress(v4: 0) {
                let port = configuration[keyPath: address].port
                configuration[keyPath: address] = SocketAddress(IPAddress(high: 0, low: 0), port)
            }
        }
        guard configuration.kubeconfig != nil || environment["KUBERNETES_SERVICE_HOST"] != nil else {
            throw OptionError("this is not a pod, so there is no cluster to ask; pass --kubeconfig PATH")
        }
        return configuration
    }

    static var usage: String {
        """
        usage: heddle-controller run [options]   follow the cluster until stopped
               heddle-controller request-certificate   ask an authority for one (--help)
               heddle-controller version

        Examples:
          heddle-controller run --config /etc/heddle/controller.yaml
          heddle-controller run --kubeconfig ~/.kube/config --api-socket /tmp/controller.sock

        options (each also as environment variable HEDDLE_CONTROLLER_NAME and as key of the configuration file):

        """ + options.help
    }
}

extension OptionKind where Value == String {
    /// One that an identity can have.
    fileprivate static var trustDomain: Self {
        OptionKind(
            "NAME", wanted: "a trust domain like cluster.local",
            parse: { WorkloadIdentity.isTrustDomain($0) ? $0 : nil }, text: { $0 })
    }
}

extension OptionKind where Value == [ServiceAccount] {
    fileprivate static var accounts: Self {
        OptionKind(
            "NS/NAME,...", wanted: "a list of ServiceAccounts like istio-system/ztunnel",
            parse: { text in
                let accounts = text.split(separator: ",", omittingEmptySubsequences: false).map(account)
                return accounts.contains(nil) ? nil : accounts.compactMap(\.self)
            }, text: { $0.map(\.description).joined(separator: ",") })
    }
}

private func account(_ text: Substring) -> ServiceAccount? {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    return parts.count == 2 ? ServiceAccount(namespace: parts[0], name: parts[1]) : nil
}
