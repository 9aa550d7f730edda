// swift-tools-version: 6.2
import PackageDescription

// Environment switches, all off by default:
//   HEDDLE_WERROR  warnings are errors (scripts/test and CI)
//   HEDDLE_STATIC  link Debian's static C libraries (the release image); nothing of the tests is built
//   HEDDLE_CORE    only what needs no SwiftNIO: compiler and dataplanes, for quick kernel work; `pure`: without those
//   HEDDLE_FUZZ    the fuzz targets (scripts/fuzz)
//   HEDDLE_BENCH   HTTP2Wire beside swift-nio-http2 (scripts/bench http2)
let isSet = { (name: String) in Context.environment[name] != nil }

let strict: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"), .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
        .enableExperimentalFeature("Lifetimes"),
    ] + (isSet("HEDDLE_WERROR") ? [.treatAllWarnings(as: .error)] : [])

let bpfLibraries: [LinkerSetting] =
    (isSet("HEDDLE_STATIC") ? [":libbpf.a", ":libelf.a", ":libz.a"] : ["bpf"]).map { .linkedLibrary($0) }
let nftLibraries: [LinkerSetting] = [
    .linkedLibrary(isSet("HEDDLE_STATIC") ? ":libnftnl.a" : "nftnl"), .linkedLibrary("mnl"),
]
let zlibLibraries: [LinkerSetting] = [.linkedLibrary(isSet("HEDDLE_STATIC") ? ":libz.a" : "z")]
let yamlLibraries: [LinkerSetting] = [.linkedLibrary(isSet("HEDDLE_STATIC") ? ":libyaml.a" : "yaml")]

func library(
    _ name: String, _ dependencies: [Target.Dependency] = [], linker: [LinkerSetting] = [],
    plugins: [Target.PluginUsage] = []
) -> Target {
    .target(
        name: name, dependencies: dependencies, swiftSettings: strict, linkerSettings: linker, plugins: plugins)
}
func tests(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .testTarget(name: name + "Tests", dependencies: dependencies, swiftSettings: strict)
}

let package = Package(
    name: "heddle",
    // Declared in every mode: what no longer names them loses its checkouts and Package.resolved.
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        // Tests only: a gRPC client and server that are not ours.
        .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.3"),
        .package(url: "https://github.com/grpc/grpc-swift-nio-transport", from: "2.9.2"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    ],
    targets: [
        // C: the system's libraries, the ABI shared with the eBPF programs, system calls Swift cannot name.
        .systemLibrary(name: "CLibbpf", providers: [.apt(["libbpf-dev"])]),
        .systemLibrary(name: "CLibnftnl", providers: [.apt(["libnftnl-dev"])]),
        .systemLibrary(name: "CLibmnl", providers: [.apt(["libmnl-dev"])]),
        .systemLibrary(name: "CLibyaml", providers: [.apt(["libyaml-dev"])]),
        .systemLibrary(name: "CZlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CDataplaneABI", path: "bpf"),
        .target(name: "CLinux"),
        .plugin(name: "BPFObjects", capability: .buildTool(), path: "Sources/BPFObjectsPlugin"),

        // L0: ground.
        library("Addressing"),
        library("PullJSON"),
        library("HTTPWire"),
        library("HTTP2Wire", ["HTTPWire"]),
        library("Options", ["Addressing"]),
        library("ProxyProtocol", ["Addressing"]),
        // L1: the pure core.
        library("RouteIR", ["Addressing"]),
        library("Cluster", ["Addressing", "PullJSON", "RouteIR"]),
        library("DataplaneIR", ["Addressing"]),
        library("Compile", ["Addressing", "Cluster", "DataplaneIR", "RouteIR"]),
        library("RouteStatus", ["Addressing", "Cluster", "Compile", "PullJSON", "RouteIR"]),
        library("Observation", ["Addressing", "DataplaneIR"]),
        library("Reconcile", ["Addressing", "DataplaneIR", "Observation"]),
        library("AdminAPI", ["Observation"]),
        library("InForce", ["Addressing", "AdminAPI", "Cluster"]),
        library("HandOver", ["Addressing", "RouteIR"]),
        library(
            "NodeControl",
            [
                "Addressing", "AdminAPI", "CertificateAuthority", "Cluster", "Compile", "DataplaneIR", "HandOver",
                "Observation", "Reconcile",
                "RouteIR",
            ]),
        library("Balancing", ["Addressing", "RouteIR"]),
        library("Validation", ["Addressing", "Cluster", "Compile", "PullJSON", "RouteIR"]),
        library("Admission", ["Cluster", "Compile", "PullJSON", "Validation"]),
        library("CertificateAuthority", ["RouteIR"]),
        // L2: kernel interfaces and formats.
        library("YAML", ["CLibyaml"], linker: yamlLibraries),
        library("Posix", ["CLinux"]),
        library("Netns", ["CLinux", "Posix"]),
        library("Netlink", ["Addressing", "CLibmnl", "CLinux"], linker: [.linkedLibrary("mnl")]),
        library("Nftables", ["Addressing", "Netlink", "CLibnftnl", "CLibmnl"], linker: nftLibraries),
        library("BPF", ["CLibbpf", "CLinux", "Posix"], linker: bpfLibraries),
        library("BPFPrograms", ["BPF", "CDataplaneABI"], plugins: ["BPFObjects"]),
        // L3: effects.
        library("Manifests", ["Addressing", "Cluster", "Posix", "YAML"]),
        library(
            "LinuxDataplane",
            [
                "Addressing", "DataplaneIR", "Observation", "Reconcile", "BPF", "BPFPrograms", "CDataplaneABI",
                "CLibbpf", "CLibnftnl", "CLinux", "Netlink", "Netns", "Nftables", "Posix",
            ]),
        library("Telemetry"),

        .target(
            name: "TestSupport",
            dependencies: [
                "Addressing", "Cluster", "DataplaneIR", "HandOver", "Observation", "Reconcile", "RouteIR", "Netns",
                "CLinux",
                "Posix",
            ],
            path: "Tests/Support", swiftSettings: strict),
        .executableTarget(
            name: "pod-driver", dependencies: ["Addressing", "CLinux", "Netns"], path: "Tests/PodDriver",
            swiftSettings: strict),
        .executableTarget(
            name: "heddle-bench",
            dependencies: [
                "Addressing", "Cluster", "Compile", "DataplaneIR", "HandOver", "HTTP2Wire", "LinuxDataplane",
                "Observation", "Posix", "PullJSON", "Reconcile", "RouteIR",
            ],
            swiftSettings: strict),
        tests("Addressing", ["Addressing", "TestSupport"]),
        tests("PullJSON", ["PullJSON", "TestSupport"]),
        tests("HTTPWire", ["HTTPWire", "TestSupport"]),
        tests("HTTP2Wire", ["Addressing", "HTTP2Wire", "Posix", "TestSupport"]),
        tests("Options", ["Addressing", "Options"]),
        tests("ProxyProtocol", ["Addressing", "ProxyProtocol"]),
        tests("Cluster", ["Addressing", "Cluster", "Manifests", "PullJSON", "RouteIR", "TestSupport", "YAML"]),
        tests("DataplaneIR", ["Addressing", "DataplaneIR"]),
        tests("Compile", ["Addressing", "Cluster", "Compile", "DataplaneIR", "RouteIR", "TestSupport", "YAML"]),
        tests("RouteStatus", ["Addressing", "Cluster", "Compile", "PullJSON", "RouteStatus", "TestSupport"]),
        tests("Reconcile", ["Addressing", "DataplaneIR", "Reconcile", "TestSupport"]),
        tests("Balancing", ["Addressing", "Balancing", "RouteIR", "TestSupport"]),
        tests("RouteIR", ["Addressing", "RouteIR", "TestSupport"]),
        tests("InForce", ["Addressing", "AdminAPI", "Cluster", "InForce", "RouteIR", "TestSupport"]),
        tests("HandOver", ["Addressing", "HandOver", "RouteIR", "TestSupport"]),
        tests(
            "NodeControl",
            [
                "Addressing", "AdminAPI", "Cluster", "Compile", "DataplaneIR", "HandOver", "NodeControl", "Observation",
                "Reconcile", "RouteIR", "TestSupport",
            ]),
        tests(
            "Validation",
            [
                "Addressing", "Cluster", "Compile", "Manifests", "PullJSON", "RouteIR", "TestSupport", "Validation",
                "YAML",
            ]),
        tests("Admission", ["Addressing", "Admission", "Cluster", "Compile", "PullJSON", "TestSupport", "Validation"]),
        tests("CertificateAuthority", ["Addressing", "CertificateAuthority", "RouteIR", "TestSupport"]),
        tests("YAML", ["YAML", "TestSupport"]),
        tests("Manifests", ["Addressing", "Cluster", "Manifests", "YAML", "TestSupport"]),
        tests("Posix", ["Posix", "TestSupport"]),
        tests("Netns", ["Addressing", "Netns", "TestSupport"]),
        tests("Netlink", ["Addressing", "Netlink", "Netns", "TestSupport"]),
        tests("Nftables", ["Addressing", "Netlink", "Nftables", "Netns", "TestSupport"]),
        tests("BPF", ["BPF", "BPFPrograms", "CDataplaneABI", "TestSupport"]),
        tests(
            "LinuxDataplane",
            [
                "Addressing", "Cluster", "Compile", "DataplaneIR", "Observation", "Reconcile", "LinuxDataplane", "BPF",
                "CDataplaneABI", "CLinux", "Netlink", "Netns", "Nftables", "Posix", "TestSupport",
            ]),
        tests("Telemetry", ["Telemetry"]),
        tests("Tidy", ["TestSupport"]),
    ],
    swiftLanguageModes: [.v6]
)

let certificates: [Target.Dependency] = [
    .product(name: "X509", package: "swift-certificates"), .product(name: "SwiftASN1", package: "swift-asn1"),
    .product(name: "Crypto", package: "swift-crypto"),
]

if !isSet("HEDDLE_CORE") {
    let nio: [Target.Dependency] = ["NIOCore", "NIOPosix", "NIOHTTP1"].map { .product(name: $0, package: "swift-nio") }
    let tls: [Target.Dependency] = [
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "NIOHTTPCompression", package: "swift-nio-extras"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
    ]
    let frames: [Target.Dependency] = ["NIOHTTP2", "NIOHPACK"].map { .product(name: $0, package: "swift-nio-http2") }
    let grpc: [Target.Dependency] = [
        .product(name: "GRPCCore", package: "grpc-swift-2"),
        .product(name: "GRPCNIOTransportHTTP2Posix", package: "grpc-swift-nio-transport"),
    ]
    let log: Target.Dependency = .product(name: "Logging", package: "swift-log")
    let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
    package.targets += [
        library(
            "Proxy",
            [
                "Addressing", "Balancing", "CLinux", "CertificateAuthority", "HTTP2Wire", "HTTPWire", "Posix",
                "ProxyProtocol", "RouteIR", "Telemetry", .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOTLS", package: "swift-nio"),
            ] + nio),
        library(
            "AdminServer",
            [
                "Posix", .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOTLS", package: "swift-nio"),
            ] + nio + frames),
        // X.509: what is made and signed; who gets it is decided in CertificateAuthority.
        library("Signing", ["CertificateAuthority"] + certificates),
        tests("Signing", ["CertificateAuthority", "Posix", "Signing", "TestSupport"] + certificates),
        library(
            "Daemon",
            ["AdminAPI", "AdminServer", "CLinux", "KubernetesClient", "Options", "Posix", "Telemetry", "YAML", log]),
        // Istio's protocol for certificates, as its clients speak it.
        library("AuthorityClient", ["CertificateAuthority", "Posix"] + nio + tls),
        library(
            "Controller",
            [
                "Addressing", "AdminAPI", "AdminServer", "Admission", "AuthorityClient", "CertificateAuthority",
                "Cluster", "Compile",
                "Daemon", "InForce", "KubernetesClient", "Options", "Posix", "PullJSON", "RouteStatus", "Signing",
                "Telemetry", "Validation", log,
            ] + nio + tls),
        .executableTarget(name: "heddle-controller", dependencies: ["Controller"], swiftSettings: strict),
        tests(
            "Controller",
            [
                "Addressing", "AdminAPI", "AdminServer", "Admission", "AuthorityClient", "CertificateAuthority",
                "Cluster", "Compile",
                "Controller", "Daemon", "DataplaneIR", "FakeAPIServer", "InForce", "KubernetesClient", "Options",
                "Posix",
                "PullJSON", "RouteIR", "Signing", "Telemetry", "TestSupport", "Validation", "YAML",
            ] + grpc + certificates),
        library("HandOverLink", ["Addressing", "AdminServer", "CLinux", "HandOver", "Posix", "RouteIR"] + nio),
        library("KubernetesClient", ["Cluster", "Posix", "PullJSON", "YAML"] + nio + tls),
        library(
            "Agent",
            [
                "Addressing", "AdminAPI", "AdminServer", "AuthorityClient", "CLinux", "CertificateAuthority", "Cluster",
                "Compile", "Daemon", "DataplaneIR", "HandOver", "HandOverLink", "KubernetesClient", "LinuxDataplane",
                "Manifests",
                "Netlink", "Netns", "NodeControl",
                "Observation", "Options", "Posix", "Reconcile", "RouteIR", "Signing", "Telemetry", "YAML", log,
            ]),
        library(
            "AgentCommands",
            [
                "Addressing", "AdminAPI", "CLinux", "CZlib", "Cluster", "DataplaneIR", "LinuxDataplane", "Manifests",
                "Observation", "Options", "Posix", "Reconcile", "Telemetry", "Validation", arguments,
            ],
            linker: zlibLibraries),
        library(
            "ProxyProgram",
            [
                "Addressing", "AdminAPI", "AdminServer", "Balancing", "CDataplaneABI", "CLinux", "CertificateAuthority",
                "HandOver", "HandOverLink", "Options", "Posix", "Proxy", "RouteIR", "Signing", "Telemetry",
            ]),
        .executableTarget(name: "heddle-proxy", dependencies: ["ProxyProgram"], swiftSettings: strict),
        .executableTarget(name: "heddle-agent", dependencies: ["Agent"], swiftSettings: strict),
        .executableTarget(name: "agentctl", dependencies: ["AgentCommands"], swiftSettings: strict),
        .target(
            name: "FakeAPIServer", dependencies: ["PullJSON", "TestSupport", "YAML"] + nio + tls,
            path: "Tests/FakeAPIServer",
            swiftSettings: strict),
        .target(
            name: "HTTP2TestSupport", dependencies: ["Addressing", "TestSupport"] + nio + frames,
            path: "Tests/SupportHTTP2", swiftSettings: strict),
        tests(
            "Proxy",
            [
                "Addressing", "Balancing", "CertificateAuthority", "HTTP2TestSupport", "HTTP2Wire", "HTTPWire", "Posix",
                "Proxy", "ProxyProtocol", "RouteIR", "Signing", "Telemetry", "TestSupport",
                .product(name: "NIOEmbedded", package: "swift-nio"),
            ] + nio + grpc),
        // HTTP2Wire beside an implementation that is not ours.
        tests(
            "HTTP2Oracle",
            ["HTTP2Wire", "TestSupport", .product(name: "NIOEmbedded", package: "swift-nio")] + nio + frames),
        tests("AdminServer", ["Addressing", "AdminServer", "Posix", "TestSupport"] + grpc),
        tests(
            "HandOverLink",
            ["Addressing", "AdminServer", "HandOver", "HandOverLink", "Posix", "Proxy", "RouteIR", "TestSupport"]),
        tests(
            "KubernetesClient",
            ["Addressing", "Cluster", "FakeAPIServer", "KubernetesClient", "PullJSON", "TestSupport", "YAML"] + nio
                + tls),
        tests(
            "Agent",
            [
                "Addressing", "AdminAPI", "AdminServer", "Agent", "CertificateAuthority", "Cluster", "Compile",
                "Daemon",
                "DataplaneIR", "HandOver", "HandOverLink", "LinuxDataplane", "Netns", "NodeControl", "Observation",
                "Options", "Posix",
                "Reconcile", "RouteIR",
                "Signing", "Telemetry",
                "TestSupport", "YAML", log,
            ]),
        tests(
            "AgentCommands",
            [
                "AdminAPI", "Addressing", "AgentCommands", "LinuxDataplane", "Observation", "Reconcile", "Telemetry",
                "TestSupport", arguments,
            ]),
        tests(
            "ProxyProgram",
            [
                "Addressing", "Balancing", "CertificateAuthority", "HandOver", "Options", "Proxy", "ProxyProgram",
                "RouteIR", "Signing", "TestSupport", "YAML",
            ]),
        tests(
            "EndToEnd",
            [
                "AdminAPI", "Addressing", "BPF", "FakeAPIServer", "HTTP2TestSupport", "Netns", "Observation", "Posix",
                "Reconcile", "RouteIR", "TestSupport", "YAML",
            ]),
        .executableTarget(
            name: "bench-tls",
            dependencies: [
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ] + nio,
            path: "Tests/Benchmarks/TLS", swiftSettings: strict),
    ]
    if isSet("HEDDLE_BENCH") {
        package.targets.append(
            .executableTarget(
                name: "bench-http2",
                dependencies: ["HTTP2Wire", .product(name: "NIOEmbedded", package: "swift-nio")] + nio + frames,
                path: "Tests/Benchmarks/HTTP2", swiftSettings: strict))
    }
}

// The first answer of scripts/test: values and functions, tested without a kernel.
if Context.environment["HEDDLE_CORE"] == "pure" {
    let rest: Set = [
        "BPFObjects", "BPF", "BPFPrograms", "BPFTests", "LinuxDataplane", "LinuxDataplaneTests", "ManifestsTests",
        "Netlink", "NetlinkTests", "NetnsTests", "Nftables", "NftablesTests", "PosixTests", "heddle-bench",
        "pod-driver",
    ]
    package.targets.removeAll { rest.contains($0.name) }
}

if isSet("HEDDLE_FUZZ") {
    func fuzzer(_ name: String, _ folder: String, _ dependencies: [Target.Dependency]) -> Target {
        .executableTarget(
            name: name, dependencies: dependencies, path: "Tests/Fuzz/Targets/" + folder,
            swiftSettings: strict + [.unsafeFlags(["-parse-as-library"])],
            linkerSettings: [.unsafeFlags(["-use-ld=lld"])])
    }
    package.targets += [
        .target(name: "FuzzSupport", path: "Tests/Fuzz/Targets/Support", swiftSettings: strict),
        fuzzer(
            "fuzz-admission", "Admission",
            ["Admission", "Addressing", "Cluster", "FuzzSupport", "PullJSON", "Validation"]),
        fuzzer("fuzz-framing", "Framing", ["FuzzSupport", "PullJSON"]),
        fuzzer("fuzz-hand-over", "HandOver", ["FuzzSupport", "HandOver"]),
        fuzzer("fuzz-http-wire", "HTTPWire", ["FuzzSupport", "HTTPWire"]),
        fuzzer("fuzz-http2-wire", "HTTP2Wire", ["FuzzSupport", "HTTP2Wire"]),
        fuzzer("fuzz-manifests", "Manifests", ["Cluster", "FuzzSupport", "Manifests"]),
        fuzzer("fuzz-objects-json", "ObjectsJSON", ["Cluster", "FuzzSupport", "Manifests", "PullJSON", "YAML"]),
    ]
    if !isSet("HEDDLE_CORE") {
        package.targets += [
            fuzzer(
                "fuzz-certificates", "Certificates", ["CertificateAuthority", "FuzzSupport", "Signing"] + certificates),
            fuzzer(
                "fuzz-tunnels", "Tunnels",
                [
                    "Addressing", "Balancing", "CertificateAuthority", "FuzzSupport", "HTTP2Wire", "Proxy", "RouteIR",
                    "Signing", .product(name: "NIOCore", package: "swift-nio"),
                    .product(name: "NIOEmbedded", package: "swift-nio"),
                    .product(name: "NIOSSL", package: "swift-nio-ssl"),
                ] + certificates),
        ]
    }
}

if isSet("HEDDLE_STATIC") {
    package.targets.removeAll { target in
        let isBenchmark = target.name.hasPrefix("bench-")
        return target.type == .test || (target.path ?? "").hasPrefix("Tests/") && !isBenchmark
    }
}
