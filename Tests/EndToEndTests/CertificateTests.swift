/// Certificates of a node's enrolled pods with the real agent and proxy, signed by an authority in a directory.
import AdminAPI
import FoundationEssentials
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct CertificateTests {
    @Test func identitiesOfEnrolledPodsHaveCertificatesThatAreRenewed() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let pods = [try node.addPod("web"), try node.addPod("api")]
            let manifests = try ManifestFolder()
            for pod in pods { try manifests.write(pod.name, manifest(pod, isEnrolled: true)) }
            let authority = try TemporaryDirectory()
            let agent = try RunningAgent(
                on: node, .ebpf, manifests,
                options: ["--ca", "directory:\(authority.path)/ca", "--certificate-life", "10s"])
            let list = {
                let data = Data(try agent.agentctl("certificates", "-o", "json").utf8)
                return try JSONDecoder().decode(CertificateList.self, from: data)
            }
            try eventually("both have one") { try list().entries.map(\.state) == ["valid", "valid"] }
            let first = try list().entries
            #expect(
                first.map(\.identity) == ["api", "web"].map { "spiffe://cluster.local/ns/default/sa/\($0)" },
                "\(first)")
            // A new key and certificate each time, also from the next agent.
            let areRenewed = { (old: [CertificateList.Entry]) in
                let now = try list().entries
                return zip(old, now).allSatisfy { $0.serial != $1.serial } && now.allSatisfy { $0.state == "valid" }
            }
            try eventually("both are renewed") { try areRenewed(first) }
            let proxies = try agent.proxies()
            try agent.killAbruptly()
            try agent.start()
            try agent.waitUntilInSync()
            try eventually("the proxy is back") { try agent.proxies() == proxies }
            let second = try list().entries
            try eventually("both are renewed") { try areRenewed(second) }
            let limits = readText("/proc/\(proxies.first ?? 0)/limits").split(separator: "\n")
            #expect(limits.contains { $0.split(separator: " ").prefix(5) == ["Max", "core", "file", "size", "0"] })
            // Its last pod leaves, and with it the key.
            try manifests.write("web", manifest(pods[0], isEnrolled: false))
            try eventually("one is left") { try list().entries.map(\.identity) == [first[0].identity] }
            let found = try? run(["grep", "-rl", "PRIVATE KEY", agent.directory.path])
            #expect(found == nil, "\(found ?? "")")
        }
    }

    private func manifest(_ pod: Pod, isEnrolled: Bool) -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata:
          name: \(pod.name)
          namespace: default
          uid: uid-\(pod.name)
          labels: {istio.io/dataplane-mode: \(isEnrolled ? "ambient" : "none")}
        spec: {nodeName: \(pod.nodeName ?? ""), serviceAccountName: \(pod.name), containers: [{name: main}]}
        status:
          phase: Running
          podIP: \(pod.v4)
          podIPs: [{ip: \(pod.v4)}, {ip: "\(pod.v6)"}]
          conditions: [{type: Ready, status: "True"}]
        """
    }
}
