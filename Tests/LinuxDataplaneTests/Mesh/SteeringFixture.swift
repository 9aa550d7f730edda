/// A node with a server in the mesh, clients beside it, and a tunnel's end that says `tunnel` to whoever comes.
import Addressing
import DataplaneIR
import Glibc
import LinuxDataplane
import Netns
import Posix
import TestSupport

final class SteeringFixture {
    enum Variant: String, CaseIterable, Sendable { case ebpf, nftables }

    let lab: Lab
    let node: LabNode
    let server: Pod
    let client: Pod
    let variant: Variant
    private(set) var steering: any PodSteering
    private(set) var pod: SteeredPod
    private var ends: [TunnelEnd] = []

    static func with(_ variant: Variant, _ body: (SteeringFixture) throws -> Void) throws {
        try Lab.with { lab in
            let fixture = try SteeringFixture(lab, variant)
            defer { fixture.closeEnds() }
            try body(fixture)
        }
    }

    private init(_ lab: Lab, _ variant: Variant) throws {
        self.lab = lab
        self.variant = variant
        node = try lab.addNode()
        server = try node.addPod("server")
        client = try node.addPod("near")
        try server.listen(.tcp, 8080)
        try server.listen(.tcp, 8081)
        steering = try Self.open(variant, node)
        pod = SteeredPod(uid: "uid-1", name: "shop/server", namespace: try server.namespace(), addresses: [:])
    }

    private static func open(_ variant: Variant, _ node: LabNode) throws -> any PodSteering {
        let (bpffs, cgroup) = (node.bpffs, node.cgroup)
        return try node.namespace().run {
            switch variant {
            case .ebpf: try BPFSteering(bpffs: bpffs)
            case .nftables: NftablesSteering(namespaces: PodNamespaces(cgroup: cgroup))
            }
        }
    }

    /// As the next agent does.
    func restart() throws { steering = try Self.open(variant, node) }

    /// What steers now, in the node's own namespace, as the agent does it.
    func run<R>(_ body: (any PodSteering) throws -> R) throws -> R {
        try node.namespace().run { try body(steering) }
    }

    func program(
        _ mode: MeshPodProgram.Mode, _ ports: [UInt16: MeshPodProgram.Mode] = [:], probes: Set<UInt16> = []
    ) throws {
        let program = MeshPodProgram(
            name: "shop/server", uid: "uid-1", mode: mode, portModes: ports, probePorts: probes)
        pod = SteeredPod(
            uid: "uid-1", name: "shop/server", namespace: try server.namespace(),
            addresses: [server.v4: program, server.v6: program])
    }

    func attach(
        _ mode: MeshPodProgram.Mode, _ ports: [UInt16: MeshPodProgram.Mode] = [:], probes: Set<UInt16> = []
    ) throws {
        try program(mode, ports, probes: probes)
        let listeners = try run { try $0.attach(pod) }
        for listener in listeners.values { ends.append(try TunnelEnd(listener)) }
    }
    func change(
        _ mode: MeshPodProgram.Mode, _ ports: [UInt16: MeshPodProgram.Mode] = [:], probes: Set<UInt16> = []
    ) throws {
        try program(mode, ports, probes: probes)
        try run { try $0.change(pod) }
    }

    /// Nobody takes tunnels any more, as when proxy and agent have died.
    func closeEnds() {
        for end in ends { end.close() }
        ends = []
    }

    /// Who answered a connection to that port of the server; `refused`, or what else came of it.
    func answer(_ from: Pod, _ port: UInt16, _ family: AddressFamily, from source: SocketAddress? = nil) throws
        -> String
    {
        try answer(from, SocketAddress(server.address(family), port), from: source)
    }
    func answer(_ from: Pod, _ address: SocketAddress, from source: SocketAddress? = nil) throws -> String {
        let result = try from.flow(.tcp, to: address, from: source)
        if result.errors[ECONNREFUSED] == 1 { return "refused" }
        return result.hits.keys.first ?? "\(result)"
    }
}

/// Takes connections and says who it is.
private final class TunnelEnd: Sendable {
    private let listener: Int32

    init(_ listener: Int32) throws {
        self.listener = listener
        try startThread {
            while true {
                var ready = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
                poll(&ready, 1, -1)
                let connection = accept(listener, nil, nil)
                guard connection >= 0 else {
                    if errno == EAGAIN { continue }
                    Glibc.close(listener)
                    return
                }
                let greeting = Array("tunnel|0.0.0.0|1\n".utf8)
                _ = write(connection, greeting, greeting.count)
                Glibc.close(connection)
            }
        }
    }
    func close() { shutdown(listener, Int32(SHUT_RDWR)) }
}
