/// Who may import whom. The table of modules is read from Package.swift; the layers, which SwiftPM does not know, are
/// here. Arrows go down only, and the pure core (L0, L1) sees neither the system nor a clock.

struct ModuleTable {
    /// Folder to the modules its target declares.
    private(set) var dependencies: [String: Set<String>] = [:]

    static let layers: [String: Int] = [
        "CLibbpf": -1, "CLibnftnl": -1, "CLibmnl": -1, "CLibyaml": -1, "CZlib": -1, "CDataplaneABI": -1, "CLinux": -1,
        "Admission": 1, "Addressing": 0, "HTTPWire": 0, "HTTP2Wire": 0, "Options": 0, "PullJSON": 0,
        "ProxyProtocol": 0,
        "AdminAPI": 1, "Balancing": 1, "Cluster": 1, "DataplaneIR": 1, "Compile": 1, "HandOver": 1, "NodeControl": 1,
        "InForce": 1, "Observation": 1, "Reconcile": 1, "RouteIR": 1, "RouteStatus": 1, "Validation": 1,
        "CertificateAuthority": 1,
        "YAML": 2, "Posix": 2, "Netns": 2, "Netlink": 2, "Nftables": 2, "BPF": 2, "BPFPrograms": 2,
        "Proxy": 3, "Manifests": 3, "LinuxDataplane": 3, "KubernetesClient": 3, "Telemetry": 3, "AdminServer": 3,
        "HandOverLink": 3, "Daemon": 3, "Signing": 3, "AuthorityClient": 3,
        "Controller": 4, "heddle-controller": 5,
        "Agent": 4, "AgentCommands": 4, "ProxyProgram": 4,
        "heddle-agent": 5, "heddle-proxy": 5, "agentctl": 5, "heddle-bench": 5,
    ]

    /// Reads the calls `library("Name", [...])`, `tests("Name", [...])`, `fuzzer("name", "Folder", [...])` and
    /// `.executableTarget(name: "name", ...)`.
    init(packageFile text: String) {
        var rest = text[...]
        while let call = Self.nextCall(&rest) {
            dependencies[call.folder] = Self.modules(in: call.arguments)
        }
    }

    private static func nextCall(_ rest: inout Substring) -> (folder: String, arguments: Substring)? {
        let openings = ["library(", "tests(", "fuzzer(", ".executableTarget(", ".target("]
        while let start = openings.compactMap({ rest.firstRange(of: $0) }).min(by: { $0.lowerBound < $1.lowerBound }) {
            let opening = rest[start]
            let tail = rest[start.upperBound...]
            rest = tail
            // The helper functions at the top of the file are no calls with a literal name.
            let arguments = balanced(tail)
            guard let name = strings(in: arguments).first, !arguments.contains("-> Target") else { continue }
            rest = tail[arguments.endIndex...]
            if opening == "fuzzer(" {
                let folder = strings(in: arguments).dropFirst().first ?? name
                return ("Tests/Fuzz/Targets/\(folder)", arguments.drop { $0 != "[" })
            }
            let list = arguments.firstRange(of: "dependencies:").map { arguments[$0.upperBound...] } ?? arguments
            let path = arguments.firstRange(of: "path:").flatMap { strings(in: arguments[$0.upperBound...]).first }
            let folder = path ?? (opening == "tests(" ? "Tests/\(name)Tests" : "Sources/\(name)")
            // Behind the name comes the list, unless it is marked by a label.
            let isLabelled = list.startIndex != arguments.startIndex
            return (folder, isLabelled ? list : list.drop { $0 != "\"" }.dropFirst(name.count + 2))
        }
        return nil
    }

    /// Up to the parenthesis that closes the call.
    private static func balanced(_ text: Substring) -> Substring {
        var depth = 1
        for index in text.indices {
            if text[index] == "(" { depth += 1 }
            if text[index] == ")" { depth -= 1 }
            if depth == 0 { return text[..<index] }
        }
        return text
    }

    private static func strings(in text: Substring) -> [String] {
        text.split(separator: "\"", omittingEmptySubsequences: false).enumerated()
            .filter { $0.offset % 2 == 1 }.map { String($0.element) }
    }

    /// The first list in the arguments; names without quotes stand for products of packages.
    private static func modules(in arguments: Substring) -> Set<String> {
        let products = [
            "nio": ["NIOCore", "NIOPosix", "NIOHTTP1"], "arguments": ["ArgumentParser"], "log": ["Logging"],
            "frames": ["NIOHTTP2", "NIOHPACK"], "certificates": ["X509", "SwiftASN1", "Crypto"],
            "grpc": ["GRPCCore", "GRPCNIOTransportHTTP2Posix"],
            "tls": ["AsyncHTTPClient", "NIOHTTPCompression", "NIOSSL"],
        ]
        let list: Substring
        if let begin = arguments.firstIndex(of: "["), let end = arguments[begin...].firstIndex(of: "]"),
            arguments[..<begin].allSatisfy({ !$0.isLetter })
        {
            // With what is added to it: `["Cluster"] + nio`.
            list = arguments[begin..<(arguments[end...].firstIndex(of: ",") ?? arguments.endIndex)]
        } else {
            list = arguments.prefix { $0 != ":" && $0 != "[" }
        }
        let bare = list.split { !$0.isLetter }.flatMap { products[String($0)] ?? [] }
        return Set(strings(in: list) + bare)
    }

    /// What the toolchain brings, by folder.
    private static func systemModules(for folder: String) -> Set<String> {
        if folder.hasPrefix("Tests/") {
            return ["Glibc", "Synchronization", "Testing", "FoundationEssentials"]
        }
        switch String(folder.dropFirst("Sources/".count)) {
        case "BPFObjectsPlugin": return ["Foundation", "PackagePlugin"]
        case let name where (layers[name] ?? 0) <= 1: return []
        case "Agent", "AgentCommands", "Daemon", "Signing", "heddle-agent", "agentctl":
            return ["Glibc", "Synchronization", "FoundationEssentials"]
        default: return ["Glibc", "Synchronization"]
        }
    }

    /// The folder of the target that a file belongs to.
    private func folder(of file: SourceFile) -> String? {
        let declared = dependencies.keys.filter { file.isBelow($0) }.max { $0.count < $1.count }
        let parts = file.path.split(separator: "/")
        return declared ?? (parts.count > 2 ? "\(parts[0])/\(parts[1])" : nil)
    }

    func findings(in file: SourceFile) -> [Finding] {
        guard file.isSwift, let folder = folder(of: file) else { return [] }
        let allowed = (dependencies[folder] ?? []).union(Self.systemModules(for: folder))
        return file.code.enumerated().compactMap { index, line in
            guard let module = importedModule(line), !allowed.contains(module) else { return nil }
            return Finding(path: file.path, line: index + 1, message: "\(folder) may not import \(module)")
        }
    }

    /// Dependencies that go up, and targets whose layer nobody wrote down.
    func layerFindings() -> [Finding] {
        dependencies.filter { $0.key.hasPrefix("Sources/") }.flatMap { folder, modules -> [Finding] in
            let name = String(folder.dropFirst("Sources/".count))
            guard let layer = Self.layers[name] else {
                return [Finding(path: "Package.swift", line: 0, message: "\(name) has no layer in ModuleTable.layers")]
            }
            return modules.compactMap { module in
                guard let other = Self.layers[module], other > layer else { return nil }
                return Finding(
                    path: "Package.swift", line: 0, message: "\(name) (L\(layer)) depends on \(module) (L\(other))")
            }
        }
    }
}

/// `package import Glibc` to `Glibc`.
private func importedModule(_ line: String) -> String? {
    let words = line.split(separator: " ")
    guard let at = words.firstIndex(of: "import"), words.count > at + 1,
        words[..<at].allSatisfy({
            ["package", "public", "private", "internal", "fileprivate"].contains($0) || $0.hasPrefix("@")
        })
    else { return nil }
    // `import struct Module.Type` names the module second.
    let kinds = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"]
    let name = kinds.contains(String(words[at + 1])) && words.count > at + 2 ? words[at + 2] : words[at + 1]
    return String(name.prefix { $0 != "." })
}
