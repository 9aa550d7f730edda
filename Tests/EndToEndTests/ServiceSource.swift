/// Where an agent under test learns of services: the same tests run from a directory and from an API server.
import Addressing
import FakeAPIServer
import Glibc
import Netns
import TestSupport

protocol ServiceSource: AnyObject {
    /// Options of the agent.
    var arguments: [String] { get }
    func write(_ service: TestService) throws
    func remove(_ name: String)
}

enum SourceKind: CaseIterable, Sendable {
    case manifests
    case kubernetes

    func make(on node: LabNode) async throws -> any ServiceSource {
        switch self {
        case .manifests: try ManifestFolder()
        case .kubernetes: try await APIServerOnNode(node)
        }
    }
}

/// A fake API server on the loopback of a node's own network namespace.
final class APIServerOnNode: ServiceSource {
    let server: FakeAPIServer
    private let directory: TemporaryDirectory

    init(_ node: LabNode) async throws {
        let socket = try node.namespace().run { try boundSocket() }
        server = try await FakeAPIServer(boundSocket: socket)
        directory = try TemporaryDirectory()
        try writeText(server.kubeconfig(), to: directory.path + "/kubeconfig")
    }

    var arguments: [String] { ["--source", "kubernetes", "--kubeconfig", directory.path + "/kubeconfig"] }

    func write(_ service: TestService) throws {
        server.put(.services, service.object)
        server.put(.endpointslices, AddressFamily.allCases.map(service.slice))
    }
    func remove(_ name: String) {
        server.delete(.services, "default", name)
        for family in AddressFamily.allCases {
            server.delete(.endpointslices, "default", TestService.sliceName(name, family))
        }
    }
}

/// On the loopback, or on all addresses.
func boundSocket(_ address: UInt32 = 0x7f00_0001) throws -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var place = sockaddr_in()
    place.sin_family = sa_family_t(AF_INET)
    place.sin_addr.s_addr = address.bigEndian
    let result = withUnsafePointer(to: &place) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
    }
    guard descriptor >= 0, result == 0 else { throw TestFailure.errno("bind a socket for the API server") }
    return descriptor
}

extension TestService {
    static func sliceName(_ name: String, _ family: AddressFamily) -> String { "\(name)-\(family.rawValue)" }

    private static let ports =
        #"{"name":"t","port":\#(targetPort),"protocol":"TCP"},{"name":"u","port":\#(targetPort),"protocol":"UDP"}"#

    fileprivate var object: FakeObject {
        FakeObject(
            "default", name,
            body: #""spec":{"type":"ClusterIP","clusterIP":"\#(v4.address)","#
                + #""clusterIPs":["\#(v4.address)","\#(v6.address)"],"ipFamilies":["IPv4","IPv6"],"ports":["#
                + #"{"name":"t","port":80,"targetPort":\#(Self.targetPort),"protocol":"TCP"},"#
                + #"{"name":"u","port":80,"targetPort":\#(Self.targetPort),"protocol":"UDP"}]}"#)
    }
    fileprivate func slice(_ family: AddressFamily) -> FakeObject {
        let endpoints = pods.map { pod in
            #"{"addresses":["\#(pod.address(family))"],"conditions":{"ready":true},"#
                + #""nodeName":"\#(pod.nodeName ?? "")"}"#
        }
        return FakeObject(
            "default", Self.sliceName(name, family), labels: ["kubernetes.io/service-name": name],
            body: #""addressType":"\#(family)","endpoints":[\#(endpoints.joined(separator: ","))],"#
                + #""ports":[\#(Self.ports)]"#)
    }
}
