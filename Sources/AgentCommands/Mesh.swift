/// `agentctl mesh`: which pods of the node are in the mesh.
import AdminAPI
import ArgumentParser

struct Mesh: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Every pod of this node: whether it is in the mesh, why, and what it takes.",
        discussion: """
            MODE is what a pod takes in the clear: STRICT nothing, PERMISSIVE and DISABLE what comes.
            -o wide also shows the policy that says so, and addresses.

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
        guard options.output != .json else { return try Output.json(list) }
        guard list.trustDomain != nil else {
            throw CommandFailure("this agent takes no part in a mesh; start it with --ca (docs/mesh.md)")
        }
        Output.tell(meshTable(list, isWide: options.output == .wide))
        for finding in list.findings { Output.complain("note: \(finding)\n") }
    }
}

func meshTable(_ list: MeshList, isWide: Bool) -> String {
    var table =
        isWide
        ? Table("POD", "MESH", "WHY", "MODE", "BY", "PORTS", "IDENTITY", "ADDRESSES")
        : Table("POD", "MESH", "WHY", "MODE", "IDENTITY")
    for pod in list.pods {
        let ports = pod.portModes.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        let isIn = pod.isEnrolled ? pod.problem == nil ? "in" : "broken" : "out"
        let why = pod.problem ?? pod.reason
        let mode = pod.mode.map { $0 + (ports.isEmpty || isWide ? "" : " (\(ports))") } ?? "-"
        if isWide {
            table.add(
                pod.name, isIn, why, mode, pod.modeSource ?? "-", ports.isEmpty ? "-" : ports, pod.identity ?? "-",
                pod.addresses.isEmpty ? "-" : pod.addresses.joined(separator: ", "))
        } else {
            table.add(pod.name, isIn, why, mode, pod.identity ?? "-")
        }
    }
    return table.text
}
