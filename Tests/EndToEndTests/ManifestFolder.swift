/// A directory of manifests under edit, as a user would keep it.
import Addressing
import Netns
import TestSupport

final class ManifestFolder: ServiceSource {
    var arguments: [String] { ["--source", "manifests:\(path)"] }
    private let directory: TemporaryDirectory
    var path: String { directory.path }

    init() throws { directory = try TemporaryDirectory() }

    func write(_ name: String, _ text: String) throws { try writeText(text, to: "\(path)/\(name).yaml") }
    func remove(_ name: String) { removeTree("\(path)/\(name).yaml") }

    /// A dual-stack Service on port 80, TCP and UDP, with one slice a family.
    func write(_ service: TestService) throws { try write(service.name, service.yaml) }

    /// An HTTPRoute that leads everything for one Service to another, or makes the proxy see what stays there.
    func writeRoute(of service: String, to backend: String) throws {
        try write(
            "route",
            """
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: all, namespace: default}
            spec:
              parentRefs: [{group: "", kind: Service, name: \(service)}]
              rules: [{backendRefs: [{name: \(backend), port: 80}]}]
            """)
    }
}

struct TestService {
    var name: String
    /// Distinguishes the addresses of services in one cluster.
    var number: UInt8
    var pods: [Pod] = []
    static let targetPort: UInt16 = 8080

    var v4: SocketAddress { SocketAddress(IPAddress(v4: 0x0a60_0000 | UInt32(number)), 80) }
    var v6: SocketAddress { SocketAddress(IPAddress(high: 0xfd00_0096 << 32, low: UInt64(number)), 80) }
    func address(_ family: AddressFamily) -> SocketAddress { family == .ipv4 ? v4 : v6 }

    var yaml: String {
        """
        apiVersion: v1
        kind: Service
        metadata: {name: \(name), namespace: default}
        spec:
          clusterIP: \(v4.address)
          clusterIPs: ["\(v4.address)", "\(v6.address)"]
          ipFamilies: [IPv4, IPv6]
          ports:
          - {name: t, port: 80, targetPort: \(Self.targetPort), protocol: TCP}
          - {name: u, port: 80, targetPort: \(Self.targetPort), protocol: UDP}
        \(AddressFamily.allCases.map(slice).joined())
        """
    }

    private func slice(_ family: AddressFamily) -> String {
        let endpoints = pods.map { pod in
            let node = pod.nodeName.map { ", nodeName: \($0)" } ?? ""
            return "- {addresses: [\"\(pod.address(family))\"], conditions: {ready: true}\(node)}"
        }
        return """
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata:
              name: \(name)-\(family.rawValue)
              namespace: default
              labels: {kubernetes.io/service-name: \(name)}
            addressType: \(family)
            ports:
            - {name: t, port: \(Self.targetPort), protocol: TCP}
            - {name: u, port: \(Self.targetPort), protocol: UDP}
            endpoints: \(endpoints.isEmpty ? "[]" : "")
            \(endpoints.joined(separator: "\n"))

            """
    }
}

extension Pod {
    /// Serves as a backend of a TestService.
    func serve() throws {
        try listen(.tcp, TestService.targetPort)
        try listen(.udp, TestService.targetPort)
    }
    /// The same for HTTP, with this body. Whoever starts it stops it.
    func serveHTTP(_ body: String) throws -> TestBackend {
        try namespace().run {
            try TestBackend(name, at: SocketAddress(v4, TestService.targetPort)) { _ in .reply(200, body: body) }
        }
    }
}
