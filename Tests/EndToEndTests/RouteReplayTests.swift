/// The Gateway API conformance cases with everything real: manifests, agent, proxy, pods, sockets. The cases are data
/// beside the repository; without them the test is skipped.
import Addressing
import Glibc
import HTTP2TestSupport
import Netns
import TestSupport
import Testing
import YAML

private let casesPath =
    #filePath.split(separator: "/").dropLast(4).map { "/" + $0 }.joined() + "/shared/conformance/l7-public-cases.yaml"

@Suite(
    .requiresKernel(.root, .netns, .cgroup2, .bpf),
    .enabled(if: !readText(casesPath).isEmpty, "there are no cases beside the repository"))
struct RouteReplayTests {
    @Test(arguments: DataplaneKind.allCases) func everyCaseHolds(dataplane: DataplaneKind) throws {
        let documents = try YAMLStream.documents(in: Array(readText(casesPath).utf8))
        let cases = list(try #require(documents.first?.root["cases"]))
        #expect(cases.count >= 15)
        try Lab.with { lab in
            let mesh = try EchoMesh(lab)
            defer { mesh.stop() }
            let agent = try RunningAgent(on: mesh.node, dataplane, mesh.manifests)
            defer { withExtendedLifetime(agent) {} }
            for (number, node) in cases.enumerated() {
                let id = node["id"]?.text ?? "?"
                do {
                    try mesh.configure(node, number)
                    for (index, step) in list(node["steps"]).enumerated() {
                        let complaint = try mesh.complaint(about: step)
                        #expect(complaint == nil, "\(id), step \(index): \(complaint ?? "")")
                    }
                } catch {
                    Issue.record("\(id): \(error)")
                }
            }
        }
    }
}

/// The echo deployments of the cases, each a pod that serves HTTP and gRPC, behind Services of their names.
private final class EchoMesh {
    static let names = ["echo-v1", "echo-v2", "infra-backend-v1", "infra-backend-v2", "infra-backend-v3"]
    let node: LabNode
    let manifests: ManifestFolder
    private let client: Pod
    private var http: [String: TestBackend] = [:]
    private var grpc: [HTTP2TestBackend] = []
    private var addresses: [String: IPAddress] = [:]

    init(_ lab: Lab) throws {
        node = try lab.addNode()
        manifests = try ManifestFolder()
        var pods: [String: Pod] = [:]
        for name in Self.names { pods[name] = try node.addPod(name) }
        guard let first = pods["echo-v1"], let second = pods["echo-v2"] else { throw TestFailure("no pods") }
        client = first
        for (name, pod) in pods { try serve(name, pod) }
        try add("echo", [first, second])
        for name in Self.names { try add(name, pods[name].map { [$0] } ?? []) }
        // A parent without endpoints of its own: everything it answers comes from the route.
        try add("gateway", [])
        try add("marker", [first])
    }
    func stop() {
        for backend in http.values { backend.stop() }
        for backend in grpc { backend.stop() }
    }

    private func serve(_ name: String, _ pod: Pod) throws {
        let (web, calls) = try pod.namespace().run {
            let web = try TestBackend(name, at: SocketAddress(pod.v4, 8080)) { request in
                // The echo server's own controls stand in the query.
                if request.target.contains("delay=1s") { poll(nil, 0, 1000) }
                return .reply(200, headers: "x-backend: \(name)\r\n", body: request.head)
            }
            let headers = [("content-type", "application/grpc"), ("x-backend", name)]
            let calls = try HTTP2TestBackend(name, at: SocketAddress(pod.v4, 7070)) { _ in
                .reply(200, headers, body: "\0\0\0\0\0", trailers: [("grpc-status", "0")])
            }
            return (web, calls)
        }
        http[name] = web
        grpc.append(calls)
    }

    private func add(_ name: String, _ pods: [Pod]) throws {
        let address = IPAddress(v4: 0x0a60_0100 + UInt32(addresses.count))
        addresses[name] = address
        let endpoints = pods.map {
            "\n- {addresses: [\($0.v4)], nodeName: \(node.name), conditions: {ready: true}}"
        }.joined()
        try manifests.write(
            name,
            """
            apiVersion: v1
            kind: Service
            metadata: {name: \(name), namespace: default}
            spec:
              clusterIP: \(address)
              ports:
              - {name: http, port: 80, targetPort: 8080}
              - {name: http-alt, port: 8080, targetPort: 8080}
              - {name: tcp, port: 9090, targetPort: 8080}
              - {name: grpc, port: 7070, targetPort: 7070}
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata: {name: \(name), namespace: default, labels: {kubernetes.io/service-name: \(name)}}
            addressType: IPv4
            ports:
            - {name: http, port: 8080}
            - {name: http-alt, port: 8080}
            - {name: tcp, port: 8080}
            - {name: grpc, port: 7070}
            endpoints: \(endpoints.isEmpty ? "[]" : "")\(endpoints)
            """)
    }

    /// Puts a case's routes in force, with a marker that shows when they are.
    func configure(_ node: YAMLNode, _ number: Int) throws {
        let id = node["id"]?.text ?? "?"
        try requireKnown(node, "id upstream level note filters_on routes steps", id)
        var text = try list(node["routes"]).enumerated().map { index, route in
            try routeManifest(
                route, name: "route-\(index)", filtersOnBackend: node["filters_on"]?.text == "backendRef")
        }.joined()
        text += """
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: marker, namespace: default}
            spec:
              parentRefs: [{group: "", kind: Service, name: marker, port: 80}]
              rules:
              - matches: [{path: {type: Exact, value: /\(number)}}]
                filters: [{type: RequestRedirect, requestRedirect: {statusCode: 302}}]
            """
        try manifests.write("case", text)
        try eventually("the routes of \(id)") { try ask("marker", "/\(number)").status == 302 }
    }

    // MARK: Asking

    private struct Answer {
        var head = ""
        var body = ""
        var status: Int { Int(head.split(separator: " ").dropFirst().first ?? "") ?? 0 }
        /// The values of a header, joined with commas; nil: there is none.
        func header(_ name: String) -> String? { Self.value(name, in: head) }
        /// The same of the request the backend got, which it sends back.
        func seen(_ name: String) -> String? { Self.value(name, in: body) }
        private static func value(_ name: String, in text: String) -> String? {
            let lines = text.split(whereSeparator: \.isNewline).filter {
                $0.lowercased().hasPrefix(name.lowercased() + ":")
            }
            guard !lines.isEmpty else { return nil }
            return lines.map { $0.dropFirst(name.utf8.count + 1).trimmed }.joined(separator: ",")
        }
    }

    /// What `curl` prints of as many answers, head and body each.
    private func fetch(_ dial: String, _ path: String, _ options: [String], count: Int = 1) throws -> String {
        let parts = dial.split(separator: ":").map(String.init)
        guard let address = addresses[parts[0]] else { throw TestFailure("no Service \(dial)") }
        let url = "http://\(address):\(parts.count > 1 ? parts[1] : "80")\(path)"
        return try client.run(
            ["curl", "-sSi", "--max-time", "10", "--path-as-is"] + options + Array(repeating: url, count: count))
    }

    private func ask(_ dial: String, _ path: String, _ options: [String] = []) throws -> Answer {
        let text = try fetch(dial, path, options)
        guard let end = text.firstRange(of: "\r\n\r\n") else { throw TestFailure("no answer from \(dial): \(text)") }
        return Answer(head: String(text[..<end.lowerBound]), body: String(text[end.upperBound...]))
    }

    /// What is wrong with a step's answer; nil: nothing.
    func complaint(about step: YAMLNode) throws -> String? {
        try requireKnown(step, "dial req host h count want note", "a step")
        let want = step["want"]
        try requireKnown(
            want, "status backend seen seen_absent resp resp_absent location shares also_seen_by", "want")
        let dial = step["dial"]?.text ?? "gateway"
        let words = (step["req"]?.text ?? "GET /").split(separator: " ").map(String.init)
        let isCall = words[0] == "GRPC"
        let path = isCall ? "/" + words[1] : words[1]
        var options = isCall ? Self.call : ["-X", words[0]]
        let host = step["host"]?.text ?? dial.split(separator: ":").first.map(String.init) ?? dial
        options += ["-H", "Host: \(host)"]
        for (name, value) in map(step["h"]) { options += ["-H", "\(name): \(value)"] }
        if let shares = want?["shares"] { return try complaint(aboutShares: shares, step, dial, path, options) }
        let before = http.mapValues(\.requests.count)
        let answer = try ask(dial, path, options)
        let statuses = want?["status"].map { $0.kind == .sequence ? list($0).map(\.text) : [$0.text] } ?? ["200"]
        guard statuses.contains("\(answer.status)") else { return "status \(answer.status): \(answer.body)" }
        for mirror in list(want?["also_seen_by"]).map(\.text) {
            try eventually("the copy for \(mirror)") { http[mirror]?.requests.count == (before[mirror] ?? 0) + 1 }
        }
        if let location = want?["location"], let complaint = complaint(location, answer, host, path) {
            return complaint
        }
        return complaint(want, answer)
    }
    private static let call = [
        "--http2-prior-knowledge", "-X", "POST", "-H", "content-type: application/grpc", "-H", "te: trailers",
        "--data-binary", "x",
    ]

    private func complaint(_ want: YAMLNode?, _ answer: Answer) -> String? {
        if let backend = want?["backend"]?.text, answer.header("x-backend") != backend {
            return "answered by \(answer.header("x-backend") ?? "nobody"): \(answer.head)"
        }
        let path = answer.body.split(separator: " ").dropFirst().first.map(String.init)
        if let wanted = want?["seen"]?["path"]?.text, wanted != path { return "the backend saw path \(path ?? "-")" }
        if let wanted = want?["seen"]?["host"]?.text, wanted != answer.seen("host") {
            return "the backend saw host \(answer.seen("host") ?? "-")"
        }
        for (name, value) in map(want?["seen"]?["headers"]) where answer.seen(name) != value {
            return "the backend saw \(name): \(answer.seen(name) ?? "-"), not \(value)"
        }
        for name in list(want?["seen_absent"]).map(\.text) where answer.seen(name) != nil {
            return "the backend saw \(name)"
        }
        for (name, value) in map(want?["resp"]) where answer.header(name) != value {
            return "the answer has \(name): \(answer.header(name) ?? "-"), not \(value)"
        }
        for name in list(want?["resp_absent"]).map(\.text) where answer.header(name) != nil {
            return "the answer has \(name)"
        }
        return nil
    }

    /// Pieces of the location that are not named are those of the request.
    private func complaint(_ wanted: YAMLNode, _ answer: Answer, _ host: String, _ path: String) -> String? {
        let location = answer.header("location") ?? ""
        let scheme = wanted["scheme"]?.text ?? "http"
        let name = wanted["host"]?.text ?? host
        var port = wanted["port"].map { ":\($0.text)" } ?? ""
        if port == (scheme == "https" ? ":443" : ":80") { port = "" }
        let expected = "\(scheme)://\(name)\(port)\(wanted["path"]?.text ?? path)"
        return location == expected ? nil : "the location is \(location), not \(expected)"
    }

    private func complaint(
        aboutShares shares: YAMLNode, _ step: YAMLNode, _ dial: String, _ path: String, _ options: [String]
    ) throws -> String? {
        let count = step["count"].flatMap { Int($0.text) } ?? 500
        let wanted = map(shares)
        var seen: [String: Int] = [:]
        // Each request is routed for itself, so they may share a connection. Debian's curl cannot over HTTP/2: there
        // each gets one of its own, all at once.
        let batch = 100
        let apart = ["--parallel", "--parallel-immediate", "--parallel-max", "\(batch)"]
        let options = options + (options.starts(with: Self.call) ? apart : [])
        // Of 500 requests, one in a hundred right runs is off by more than 0.05; of 2,000, one in a million.
        for asked in [count, 4 * count] {
            while seen.values.reduce(0, +) < asked {
                // Answers that come at once mix by the line, and a message of gRPC does not end one.
                let answers = try fetch(dial, path, options, count: batch)
                    .split(whereSeparator: { $0.isNewline || $0 == "\0" })
                let names = answers.compactMap { $0.hasPrefix("x-backend: ") ? String($0.dropFirst(11)) : nil }
                guard names.count == batch else { return "of \(batch) answers \(names.count) named one: \(answers)" }
                for name in names { seen[name, default: 0] += 1 }
            }
            guard seen.keys.allSatisfy({ key in wanted.contains { $0.0 == key && $0.1 != "0" } }) else { break }
            let isOff = { (name: String, share: String) in
                (Double(seen[name, default: 0]) / Double(asked) - (Double(share) ?? -1)).magnitude > 0.05
            }
            if !wanted.contains(where: isOff) { return nil }
        }
        return "\(seen)"
    }
}
