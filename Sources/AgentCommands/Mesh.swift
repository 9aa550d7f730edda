/// `agentctl mesh`: which pods of the node are in the mesh.
import AdminAPI
import ArgumentParser
import Glibc

struct Mesh: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Every pod of this node: whether it is in the mesh, why, and what it takes.",
        discussion: """
            MODE is what a pod takes in the clear: STRICT nothing, PERMISSIVE and DISABLE what comes.
            TUNNELS are connections between nodes for the pod; -o wide adds how many of the pods' own connections are in
            them, the policy that says the mode, and addresses.

            Examples:
              agentctl mesh
              agentctl mesh shop/web-0
            """)

    @Argument(help: ArgumentHelp("Only this pod.", valueName: "namespace/name"))
    var pod: String?
    @OptionGroup var options: SharedOptions

    func run() throws {
        var list = try options.client.get(MeshList.self, AdminPath.mesh)
        if let pod { list.pods.removeAll { $0.name != pod } }
        // Without a proxy that answers there are none to show.
        list.count(try? options.client.get([OpenTunnels].self, AdminPath.proxy, [("what", "tunnels")]))
        guard options.output != .json else { return try Output.json(list) }
        guard list.trustDomain != nil else {
            throw CommandFailure("this agent takes no part in a mesh; start it with --ca (docs/mesh.md)")
        }
        let certificates = try? options.client.get(CertificateList.self, AdminPath.proxy, [("what", "certificates")])
        Output.tell(
            meshTable(list, certificates?.entries ?? [], now: time(nil), isWide: options.output == .wide))
        for finding in list.findings { Output.complain("note: \(finding)\n") }
    }
}

extension MeshList {
    /// `open`: by address; nil: nobody knows.
    mutating func count(_ open: [OpenTunnels]?) {
        guard let open else { return }
        let byAddress = Dictionary(open.map { ($0.pod ?? "", $0) }, uniquingKeysWith: { first, _ in first })
        for index in pods.indices where pods[index].isEnrolled {
            var sum = OpenTunnels()
            for address in pods[index].addresses { if let count = byAddress[address] { sum.add(count) } }
            pods[index].tunnels = sum
        }
    }
}

func meshTable(
    _ list: MeshList, _ certificates: [CertificateList.Entry] = [], now: Int = 0, isWide: Bool
) -> String {
    var table =
        isWide
        ? Table("POD", "MESH", "WHY", "MODE", "BY", "PORTS", "IDENTITY", "CERTIFICATE", "TUNNELS", "ADDRESSES")
        : Table("POD", "MESH", "WHY", "MODE", "IDENTITY", "CERTIFICATE", "TUNNELS")
    let byIdentity = Dictionary(certificates.map { ($0.identity, $0) }, uniquingKeysWith: { first, _ in first })
    for pod in list.pods {
        let ports = pod.portModes.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        let isIn = pod.isEnrolled ? pod.problem == nil ? "in" : "broken" : "out"
        let why = pod.problem ?? pod.reason
        let mode = pod.mode.map { $0 + (ports.isEmpty || isWide ? "" : " (\(ports))") } ?? "-"
        let certificate = pod.identity.flatMap { byIdentity[$0] }.map { certificateText($0, now: now) } ?? "-"
        let tunnels = pod.tunnels.map { tunnelText($0, isWide: isWide) } ?? "-"
        if isWide {
            table.add(
                pod.name, isIn, why, mode, pod.modeSource ?? "-", ports.isEmpty ? "-" : ports, pod.identity ?? "-",
                certificate, tunnels, pod.addresses.isEmpty ? "-" : pod.addresses.joined(separator: ", "))
        } else {
            table.add(pod.name, isIn, why, mode, pod.identity ?? "-", certificate, tunnels)
        }
    }
    return table.text
}

/// `2 in, 1 out`, or with all that is in them: `2 in (5 streams), 1 out (1 stream)`
private func tunnelText(_ open: OpenTunnels, isWide: Bool) -> String {
    let streams = { (count: Int) in isWide ? " (\(count) stream\(count == 1 ? "" : "s"))" : "" }
    return "\(open.inbound) in\(streams(open.inboundStreams)), \(open.outbound) out\(streams(open.outboundStreams))"
}

/// `valid, ends in 23h`
private func certificateText(_ entry: CertificateList.Entry, now: Int) -> String {
    entry.state + (entry.notAfter.map { ", ends \(endText($0, now: now))" } ?? "")
}
