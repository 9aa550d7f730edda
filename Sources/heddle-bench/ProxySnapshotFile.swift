/// A configuration for heddle-proxy as it keeps it on disk, so that it can be measured without an agent: one service
/// whose cluster IP is the proxy's own listener, and a canary route over two versions with two endpoints each.
import Addressing
import Glibc
import HandOver
import Posix
import RouteIR

struct CanaryConfiguration {
    /// Where the proxy listens.
    let frontend: SocketAddress
    /// The stable version's endpoints and the new one's.
    let stable: [SocketAddress]
    let canary: [SocketAddress]
    /// Whether they speak HTTP/2.
    let speaksHTTP2: Bool

    private func id(_ name: String) -> UpstreamID {
        UpstreamID(RoutedServiceID(namespace: "shop", name: name, port: 80))
    }

    private var rules: [RouteRule] {
        var pinned = RouteRule(
            name: "shop/canary rule 0", matches: [RouteMatch(headers: [FieldMatch("x-canary", .exact("yes"))])])
        pinned.backends = [WeightedBackend(.upstream(id("web-v2")))]
        var split = RouteRule(name: "shop/canary rule 1")
        split.backends = [
            WeightedBackend(.upstream(id("web-v1")), weight: 90), WeightedBackend(.upstream(id("web-v2")), weight: 10),
        ]
        return [pinned, split].map { rule in
            var rule = rule
            rule.retry = RetryPolicy(attempts: 2, codes: [503])
            return rule
        }
    }

    var snapshot: ProxySnapshot {
        var service = RoutedService(id: id("web").service, portName: "http", clientSpeaks: .http1)
        service.frontends = [frontend]
        service.producerRoutes = rules
        var snapshot = ProxySnapshot(generation: 1, node: ProxyNode(name: "node-1"))
        snapshot.services = [service.id: service]
        for (name, addresses) in [("web", stable + canary), ("web-v1", stable), ("web-v2", canary)] {
            snapshot.upstreams[id(name)] = Upstream(
                id: id(name), wire: speaksHTTP2 ? .h2c : .http1, endpoints: addresses.sorted().map { Endpoint($0) })
            for address in addresses where name != "web" {
                snapshot.workloads[address.address] = workload(name, "\(name)-\(address.address.networkBytes[3])")
            }
        }
        snapshot.workloads[frontend.address] = workload("client", "client-1")
        return snapshot
    }

    private func workload(_ name: String, _ pod: String) -> Workload {
        Workload(namespace: "shop", pod: pod, name: name, app: name, version: "v1", canonicalService: name)
    }

    /// The frame of an update without base: what `LastConfiguration` reads.
    func write(to path: String) throws {
        let bytes = HandOverFrame.encode(.update(snapshot.update(since: nil)))
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        guard descriptor >= 0 else { throw SocketFailure("create \(path)") }
        defer { close(descriptor) }
        guard writeAll(bytes, to: descriptor).code == 0 else { throw SocketFailure("write \(path)") }
    }
}
