/// Measures Heddle; run by scripts/bench, which builds the namespaces around it. Each command prints one line of JSON.
import Addressing
import Glibc

struct Usage: Error {}

func option(_ name: String, in arguments: [String]) throws -> String {
    guard let at = arguments.firstIndex(of: "--" + name), at + 1 < arguments.count else { throw Usage() }
    return arguments[at + 1]
}
func number(_ name: String, in arguments: [String]) throws -> Int {
    guard let value = Int(try option(name, in: arguments)) else { throw Usage() }
    return value
}
func socketAddress(_ name: String, in arguments: [String]) throws -> SocketAddress {
    guard let value = SocketAddress(try option(name, in: arguments)) else { throw Usage() }
    return value
}

func socketAddresses(_ name: String, in arguments: [String]) throws -> [SocketAddress] {
    try option(name, in: arguments).split(separator: ",").map { text in
        guard let address = SocketAddress(String(text)) else { throw Usage() }
        return address
    }
}

func run(_ arguments: [String]) throws {
    switch arguments.first {
    case "programming":
        try benchProgramming(
            ProgrammingOptions(
                dataplane: try option("dataplane", in: arguments),
                cluster: GeneratedCluster(
                    services: try number("services", in: arguments), endpoints: try number("endpoints", in: arguments)),
                updates: try number("updates", in: arguments), target: try socketAddress("target", in: arguments),
                cgroup: try option("cgroup", in: arguments), bpffs: try option("bpffs", in: arguments)))
    case "traffic":
        guard let kind = Traffic(rawValue: try option("kind", in: arguments)) else { throw Usage() }
        try benchTraffic(
            kind, target: try socketAddress("target", in: arguments), count: try number("count", in: arguments),
            cgroup: try option("cgroup", in: arguments))
    case "steadily":
        try benchSteadily(try socketAddress("target", in: arguments), rate: try number("rate", in: arguments))
    case "answer":
        var server = TrafficServer()
        for address in try socketAddresses("addresses", in: arguments) { try server.listen(at: address) }
        try server.run()
    case "edits":
        let backends = try (0..<2).map { try socketAddress("backend\($0)", in: arguments) }
        try benchEdits(
            directory: try option("manifests", in: arguments), service: try socketAddress("service", in: arguments),
            backends: backends, count: try number("count", in: arguments))
    case "decode": try benchDecode()
    case "manifests":
        let cluster = GeneratedCluster(
            services: try number("services", in: arguments), endpoints: try number("endpoints", in: arguments))
        try writeManifests(cluster, to: try option("out", in: arguments))
    case "proxy-snapshot":
        let configuration = CanaryConfiguration(
            frontend: try socketAddress("frontend", in: arguments),
            stable: try socketAddresses("stable", in: arguments),
            canary: try socketAddresses("canary", in: arguments),
            speaksHTTP2: try option("wire", in: arguments) == "h2c")
        try configuration.write(to: try option("out", in: arguments))
    case "rate":
        let request = arguments.contains("--echo") ? RateGenerator.echoed : RateGenerator.http
        try benchRate(
            request, to: try socketAddress("target", in: arguments), rate: try number("rate", in: arguments),
            seconds: try number("seconds", in: arguments))
    case "grpc-server": try serveGRPC(at: try socketAddresses("addresses", in: arguments))
    case "grpc-streams":
        try benchGRPCStreams(
            try socketAddress("target", in: arguments), streams: try number("streams", in: arguments),
            underWay: try number("under-way", in: arguments), size: try number("size", in: arguments),
            messages: try number("messages", in: arguments))
    case "serve":
        let name = (try? number("name", in: arguments)).map { UInt8(truncatingIfNeeded: $0) }
        serve(try listen(at: try socketAddress("address", in: arguments)), name: name)
    default: throw Usage()
    }
}

do {
    try run(Array(CommandLine.arguments.dropFirst()))
} catch is Usage {
    print(
        "usage: heddle-bench programming|traffic|steadily|answer|edits|decode|manifests|proxy-snapshot|rate|serve|"
            + "grpc-server|grpc-streams, with the options scripts/bench gives it")
    exit(2)
} catch {
    print("heddle-bench: \(error)")
    exit(1)
}
