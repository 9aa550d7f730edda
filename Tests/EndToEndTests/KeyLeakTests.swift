/// Private keys are in the memory of whoever needs them, and nowhere else.
import Addressing
import FoundationEssentials
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct KeyLeakTests {
    @Test func noKeyIsInAFileALogAReportOrAnotherProcess() throws {
        try Lab.with { lab in
            let mesh = try LabMesh(lab, .ebpf, options: ["--certificate-life", "10s", "--log-level", "debug"])
            let enrolled = [mesh.client, mesh.near, mesh.far]
            try mesh.enrol(enrolled)
            try mesh.waitUntilEnrolled(enrolled)
            let speak = {
                try eventually("a tunnel") {
                    let target = SocketAddress(mesh.far.v4, TestService.targetPort)
                    return try mesh.client.flow(.tcp, to: target, count: 5).answered == 5
                }
            }
            let proxies = try mesh.agents.flatMap { try $0.proxies() }
            var keys: Set<PrivateKey> = []
            // Of three pods, and then some that follow them.
            try eventually("keys, and newer ones", within: .seconds(30)) {
                try speak()
                for proxy in proxies { try keys.formUnion(PrivateKey.all(in: proxy)) }
                return keys.count >= 8
            }
            let authority = try keyOfAuthority(mesh)
            for (number, agent) in mesh.agents.enumerated() {
                for (name, arguments) in [
                    ("certificates", ["certificates", "-o", "json"]), ("mesh", ["mesh", "-o", "json"]),
                    ("config", ["proxy", "config"]),
                ] { try writeText(agent.agentctl(arguments), to: "\(agent.directory.path)/\(name)") }
                try agent.agentctl("bugreport", "--file", "\(agent.directory.path)/report.tar.gz")
                let pid = try #require(agent.pid)
                for key in keys { #expect(try !key.isIn(pid), "an agent has a proxy's key") }
                #expect(try !authority.isIn(proxies[number]), "a proxy has the authority's key")
                for pid in [pid, proxies[number]] { expectNoCore(pid) }
                // A crash leaves nothing.
                kill(proxies[number], SIGABRT)
                try eventually("the proxy has ended") { kill(proxies[number], 0) != 0 }
                kill(pid, SIGABRT)
                try agent.killAbruptly()
            }
            for directory in mesh.agents.map(\.directory.path) + [mesh.manifests.path, mesh.authority.path] {
                let found = try leaks(of: keys, below: directory)
                #expect(found.isEmpty, "\(found)")
                guard directory != mesh.authority.path else { continue }
                #expect(try leaks(of: [authority], below: directory).isEmpty)
            }
            let cores = directoryEntries(".").filter { $0.hasPrefix("core") }
            #expect(cores.isEmpty, "\(cores)")
            try expectToFind(try #require(keys.first))
        }
    }

    private func keyOfAuthority(_ mesh: LabMesh) throws -> PrivateKey {
        let lines = readText(mesh.authority.path + "/ca-key.pem").split(separator: "\n")
        let der = try #require(Data(base64Encoded: lines.filter { !$0.hasPrefix("-") }.joined()))
        return try #require(Array(der).withUnsafeBytes { PrivateKey.all(in: $0) }.first)
    }

    private func expectNoCore(_ pid: pid_t) {
        let limits = readText("/proc/\(pid)/limits").split(separator: "\n")
        #expect(limits.contains { $0.split(separator: " ").prefix(6) == ["Max", "core", "file", "size", "0", "0"] })
    }

    /// The search is worth something: a key is found in each form that it may have.
    private func expectToFind(_ key: PrivateKey) throws {
        let folder = try TemporaryDirectory()
        // A frame of SEC 1, of 7 bytes and a public key.
        let (before, behind): ([UInt8], [UInt8]) = ([0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20], [0xa0, 0x0a, 0x06])
        let der = before + key.scalar + behind
        let lines = Data(der).base64EncodedString(options: .lineLength64Characters)
        let digits = key.scalar.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        let texts = [
            "digits": digits, "swift": "key: \(key.scalar)", "pem": "-----BEGIN EC PRIVATE KEY-----\n\(lines)\n",
            "json": "{\"key\": \"\(lines.replacing("\n", with: "\\n"))\"}",
        ]
        for (name, text) in texts { try writeText(text, to: "\(folder.path)/\(name)") }
        try Data(der).write(to: URL(filePath: folder.path + "/der"))
        try run(["tar", "-C", folder.path, "-czf", folder.path + "/report.tar.gz", "der"])
        let found = try leaks(of: [key], below: folder.path)
        for name in texts.keys + ["der", "report.tar.gz"] {
            #expect(found.contains { $0.hasPrefix("\(folder.path)/\(name):") }, "\(name): \(found)")
        }
    }
}
