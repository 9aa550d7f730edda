// What an agent reads after an upgrade was written by the one before: the form of the snapshot's file is recorded.
import Addressing
import Cluster
import FoundationEssentials
import RouteIR
import Testing

@testable import Agent

@Suite struct SnapshotFormatTests {
    private static let remedy: Comment =
        """
        the snapshot's file is not what it was at version \(SnapshotHeader.currentVersion): an agent of another \
        release would read it as something else, or not at all. Raise SnapshotHeader.currentVersion and record the \
        new form as recordedSnapshot; what is new gets a value in `everyField`
        """

    @Test func whatWasWrittenIsReadAsWhatItWas() throws {
        let snapshot = try SnapshotFormat.read(Array(recordedSnapshot.utf8), node: "node-a", source: "https://api")
        #expect(snapshot.header == Self.header && snapshot.objects == everyField(), Self.remedy)
    }

    /// The order of keys is not part of the form.
    @Test func whatIsWrittenIsWhatWasRecorded() throws {
        var bytes: [UInt8] = []
        SnapshotFormat.write(Self.header, everyField()) { bytes += $0 }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").dropLast()
        let recorded = recordedSnapshot.split(separator: "\n").dropLast()
        for (line, old) in zip(lines, recorded) { #expect(try ordered(line) == ordered(old), Self.remedy) }
        #expect(lines.count == recorded.count)
    }

    /// What was added since the first release of version 1 is missing in the file of an agent before it.
    @Test func whatIsNewMayBeMissing() throws {
        let later = [
            #""annotations":{"heddle.io/x":"y"},"labels":{"team""#, #""place":2,"#, #","uid":"p1""#,
            #","probePorts":[8081]"#, #""datagramTransports":[17],"#,
        ]
        var lines = recordedSnapshot.split(separator: "\n").dropFirst().dropLast().map(String.init)
        for (index, line) in lines.enumerated() {
            lines[index] = later.dropFirst().reduce(line.replacing(later[0], with: #""labels":{"team""#)) {
                $0.replacing($1, with: "")
            }
            guard let start = lines[index].firstRange(of: #""record":{"#),
                let end = lines[index].firstRange(of: #""rules""#)
            else { continue }
            lines[index].removeSubrange(start.lowerBound..<end.lowerBound)
        }
        let read = try lines.map { try JSONDecoder().decode(ClusterObject.self, from: Data($0.utf8)) }
        let first = everyField().map { object in
            switch object {
            case .namespace(var namespace):
                namespace.annotations = [:]
                return ClusterObject.namespace(namespace)
            case .route(var route):
                (route.parents[0].place, route.record) = (nil, nil)
                return .route(route)
            case .pod(var pod):
                (pod.uid, pod.probePorts, pod.datagramTransports) = (nil, [], [])
                return .pod(pod)
            default: return object
            }
        }
        #expect(read == first)
    }

    /// A field without a value is not written, so that it would be missing above.
    @Test func nothingIsLeftOut() {
        #expect(everyField().flatMap { absent(in: $0, at: "\($0.id)") } == [])
        struct New {
            var value: Int?
            var list = [[1], []]
        }
        #expect(absent(in: New(), at: "x") == ["x.value", "x.list.1"])
    }

    private static let header = SnapshotHeader(node: "node-a", source: "https://api", writtenAt: 1000.5)

    private func ordered(_ line: Substring) throws -> String {
        let start = line.firstIndex(of: "{") ?? line.startIndex
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let value = try JSONDecoder().decode(JSONValue.self, from: Data(line[start...].utf8))
        return try line[..<start] + String(decoding: encoder.encode(value), as: UTF8.self)
    }

    private func absent(in value: Any, at path: String) -> [String] {
        let mirror = Swift.Mirror(reflecting: value)
        switch mirror.displayStyle {
        case .optional, .collection, .dictionary, .set: if mirror.children.isEmpty { return [path] }
        default: break
        }
        return mirror.children.enumerated().flatMap { index, child in
            let name = mirror.displayStyle == .optional ? "" : ".\(child.label ?? "\(index)")"
            return absent(in: child.value, at: path + name)
        }
    }

    private func everyField() -> [ClusterObject] {
        var node = Node(name: "node-a")
        node.labels = ["zone": "a"]
        node.nodeIPs = [IPAddress(v4: 0xc0a8_0001)]
        node.podCIDRs = [IPPrefix("fd00:1::/64")].compactMap { $0 }
        node.isToBeDeleted = true
        node.hasDeletionTimestamp = true
        var namespace = Namespace(name: "shop")
        namespace.labels = ["team": "a"]
        namespace.annotations = ["heddle.io/x": "y"]
        var pod = Pod(name: ObjectName("shop", "web-0"))
        pod.labels = ["app": "web"]
        pod.addresses = [IPAddress(v4: 0x0a01_0002)]
        pod.nodeName = "node-a"
        pod.namedPorts = [Pod.NamedPort(name: "http", transport: .udp, port: 8080)]
        (pod.uid, pod.serviceAccount) = ("p1", "robot")
        (pod.probePorts, pod.datagramTransports) = ([8081], [.udp])
        (pod.ownerKind, pod.ownerName) = ("ReplicaSet", "web")
        let cidrs = [IPPrefix("10.96.0.0/16")].compactMap { $0 }
        return [
            .service(service), .endpointSlice(slice), .node(node), .namespace(namespace), .pod(pod),
            .serviceCIDR(ServiceCIDR(name: "kubernetes", cidrs: cidrs)), .route(route),
        ]
    }

    private var service: Service {
        var service = Service(name: ObjectName("shop", "web"))
        service.type = .loadBalancer
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001), IPAddress(high: 1, low: 2)]
        service.ports = [
            Service.Port(
                name: "http", transport: .sctp, port: 80, nodePort: 30080, appProtocol: "grpc", targetPort: .name("h")),
            Service.Port(name: "n", port: 81, nodePort: 1, appProtocol: "x", targetPort: .number(82)),
        ]
        service.selector = ["app": "web"]
        service.externalIPs = [IPAddress(v4: 0xc000_0201)]
        service.ingress = [Service.Ingress(IPAddress(v4: 0xc000_0202), isProxyMode: true)]
        service.sourceRanges = [IPPrefix("192.0.2.0/24")].compactMap { $0 }
        service.affinitySeconds = 10
        service.internalTrafficPolicy = .local
        service.externalTrafficPolicy = .local
        service.healthCheckNodePort = 32000
        service.publishNotReadyAddresses = true
        service.proxyName = "p"
        service.hasHeadlessLabel = true
        service.annotations = ["heddle.io/x": "y"]
        service.creationTime = 1 << 33
        return service
    }

    private var slice: EndpointSlice {
        var slice = EndpointSlice(name: ObjectName("shop", "web-1"), serviceName: "web", addressType: .ipv4)
        slice.ports = [EndpointSlice.Port(name: "http", transport: .udp, port: 8080)]
        slice.endpoints = [
            EndpointSlice.Endpoint(
                IPAddress(v4: 0x0a01_0002), conditions: [.serving, .terminating], nodeName: "node-a", zone: "a",
                forZones: ["a"], forNodes: ["node-a"])
        ]
        slice.proxyName = "p"
        slice.hasHeadlessLabel = true
        slice.lastChangeTriggerTime = 1.5
        return slice
    }

    private var route: Route {
        var route = Route(kind: .grpc, name: ObjectName("shop", "r"))
        route.creationTime = 1
        route.parents = [Route.Parent(service: ObjectName("shop", "web"), port: 80, sectionName: "http")]
        route.parents[0].place = 2
        var record = RouteRecord()
        (record.resourceVersion, record.generation) = ("7", 3)
        record.parentNamespaces = ["shop"]
        record.entries = [RouteRecord.Entry(controllerName: "c", json: Array("{}".utf8))]
        route.record = record
        route.hostnames = ["a.example"]
        route.annotations = ["heddle.io/x": "y"]
        var rule = Route.Rule()
        rule.name = "one"
        let text = Route.TextMatch("t", isRegularExpression: true)
        let paths: [Route.PathMatch] = [
            .exact("/a"), .prefix("/b"), .regularExpression("/c"), .call(service: text, method: text),
        ]
        rule.matches = paths.map { path in
            var match = Route.Match()
            match.path = path
            match.method = "GET"
            match.headers = [Route.FieldMatch(name: "x", value: text)]
            match.query = [Route.FieldMatch(name: "q", value: text)]
            return match
        }
        var reference = Route.BackendReference(name: ObjectName("shop", "v2"), port: 80)
        (reference.group, reference.kind) = ("g", "k")
        rule.filters = filters(reference)
        var backend = Route.Backend(reference)
        backend.weight = 9
        backend.filters = [.unknown("u")]
        rule.backends = [backend]
        rule.timeouts = .init(request: .seconds(1), backendRequest: .milliseconds(2))
        rule.retry = RetryPolicy(attempts: 2, codes: [503], backoff: .seconds(3), classes: [.nonIdempotent])
        rule.ignoredFields = ["f"]
        route.rules = [rule]
        return route
    }

    private func filters(_ reference: Route.BackendReference) -> [Route.Filter] {
        let id = UpstreamID(
            RoutedServiceID(namespace: "shop", name: "v2", port: 80), subset: "s", host: "h", cluster: "c")
        let edit = HeaderEdit(set: [HeaderField("a", "b")], add: [HeaderField("c", "d")], remove: ["e"])
        var policy = CORSPolicy()
        policy.allowOrigins = ["*"]
        policy.allowMethods = ["PUT"]
        policy.allowHeaders = ["h"]
        policy.exposeHeaders = ["e"]
        policy.allowCredentials = true
        let path = PathEdit.replacePrefix("/a", with: "/b")
        let redirect = Redirect(scheme: "https", hostname: "h", path: path, port: 1, status: 301)
        let ready: [RouteFilter] = [
            .requestHeaders(edit), .responseHeaders(edit), .redirect(redirect),
            .rewrite(Rewrite(hostname: "h", path: .full("/x"))), .cors(policy), .unresolved("u"),
            .mirror(Mirror(.upstream(id), numerator: 1, denominator: 7)), .mirror(Mirror(.invalid("gone"))),
        ]
        return ready.map { .ready($0) } + [
            .redirect(redirect, path: .full("/f")), .rewrite(hostname: "h", path: .prefix("/p")),
            .mirror(reference, numerator: 1, denominator: 7), .unknown("u"),
        ]
    }
}

private enum JSONValue: Codable, Equatable {
    case truth(Bool)
    case integer(Int64)
    case natural(UInt64)
    case number(Double)
    case text(String)
    case list([JSONValue])
    case object([String: JSONValue])

    init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if let known = try? value.decode(Bool.self) {
            self = .truth(known)
        } else if let known = try? value.decode(Int64.self) {
            self = .integer(known)
        } else if let known = try? value.decode(UInt64.self) {
            self = .natural(known)
        } else if let known = try? value.decode(Double.self) {
            self = .number(known)
        } else if let known = try? value.decode(String.self) {
            self = .text(known)
        } else if let known = try? value.decode([JSONValue].self) {
            self = .list(known)
        } else {
            self = .object(try value.decode([String: JSONValue].self))
        }
    }
    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .truth(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .natural(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .text(let value): try container.encode(value)
        case .list(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}
