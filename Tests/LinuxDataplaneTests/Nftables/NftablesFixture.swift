/// What the nftables tests share: programs made with few words, and running `nft` inside a namespace.
import Addressing
import DataplaneIR
import Glibc
import LinuxDataplane
import Netns
import Reconcile
import TestSupport

/// Runs a shell command in the calling thread's network namespace; throws with its output when it fails.
@discardableResult
func shell(_ command: String) throws -> String {
    guard let stream = popen("{ \(command)\n} 2>&1", "r") else { throw TestFailure("cannot run \(command)") }
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = fread(&buffer, 1, buffer.count, stream)
        if count == 0 { break }
        output += buffer[..<count]
    }
    let status = pclose(stream)
    let text = String(decoding: output, as: UTF8.self)
    guard status == 0 else { throw TestFailure("\(command): exit status \(status): \(text)") }
    return text
}

func address(_ text: String) throws -> IPAddress {
    guard let address = IPAddress(text) else { throw TestFailure("\(text) is no address") }
    return address
}
func prefix(_ text: String) throws -> IPPrefix {
    guard let prefix = IPPrefix(text) else { throw TestFailure("\(text) is no prefix") }
    return prefix
}

/// A service port in few words.
struct TestService {
    var name = "web"
    var transport = TransportProtocol.tcp
    var family = AddressFamily.ipv4
    var frontends: [Frontend] = []
    /// `address:port`, followed by `local` or `terminating` or both.
    var cluster: [String] = []
    /// How many of the last ones of `cluster` are the local set too.
    var sharedLocal = 0
    /// More of the local set, outside the cluster set.
    var onlyLocal: [String] = []
    var internalPolicy = TrafficPolicy.cluster
    var externalPolicy = TrafficPolicy.cluster
    var affinity: UInt32?

    var id: ServicePortID {
        ServicePortID(namespace: "default", service: name, portName: "http", transport: transport, family: family)
    }
    func program() throws -> ServiceProgram {
        ServiceProgram(
            id: id, frontends: frontends, backends: try (cluster + onlyLocal).map(backend),
            clusterRange: 0..<cluster.count,
            localRange: cluster.count - sharedLocal..<cluster.count + onlyLocal.count, internalPolicy: internalPolicy,
            externalPolicy: externalPolicy, affinitySeconds: affinity)
    }
    private func backend(_ text: String) throws -> Backend {
        let words = text.split(separator: " ")
        guard let address = SocketAddress(words[0]) else { throw TestFailure("\(text) is no endpoint") }
        var state: Backend.State = .serving
        if words.contains("local") { state.insert(.local) }
        if words.contains("terminating") { state.insert(.terminating) }
        return Backend(address, state: state)
    }
}

/// Hands a dataplane one plan after the other.
final class PlanFeeder {
    let dataplane: NftablesDataplane
    var node: NodeProgram
    private var generation: UInt64 = 0

    init(_ dataplane: NftablesDataplane, node: NodeProgram = NodeProgram(nodeName: "n1")) {
        self.dataplane = dataplane
        self.node = node
    }
    @discardableResult
    func apply(_ services: [TestService], removing: [ServicePortID] = [], full: Bool = false) throws -> Receipt {
        try apply(programs: try services.map { try $0.program() }, removing: removing, full: full)
    }
    @discardableResult
    func apply(programs: [ServiceProgram], removing: [ServicePortID] = [], full: Bool = false) throws -> Receipt {
        generation += 1
        return try dataplane.apply(
            Plan(
                generation: generation, node: node, upserts: programs.sorted { $0.id < $1.id }, removals: removing,
                isFull: full))
    }
}
