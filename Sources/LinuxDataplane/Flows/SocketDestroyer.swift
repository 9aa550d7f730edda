/// Ends sockets. A connected UDP socket passes no hook when it sends, so when its backend is gone nothing else tells
/// the program behind it; now receiving fails with ECONNABORTED and sending with EDESTADDRREQ, and it connects again,
/// to a backend that lives (spec rows 114-120, 134).
import Addressing
import BPF
import Netlink
import Netns

struct SocketDestroyer {
    /// Sockets are looked for in the network namespaces that processes of this cgroup live in: sock_diag has to be
    /// asked in each.
    let cgroup: String

    /// Ends the sockets with these cookies that are still connected to these addresses, and returns the cookies of
    /// those it did not find.
    func destroy(
        _ transport: TransportProtocol, _ stale: [UInt64: SocketAddress]
    ) throws(BPFError) -> Set<UInt64> {
        var missing = stale
        for namespace in try CgroupTree.namespaces(below: cgroup) where !missing.isEmpty {
            try namespace.run(refusal: { BPFError($0.operation, $0.code) }) { () throws(BPFError) in
                try destroyHere(transport, &missing)
            }
        }
        return Set(missing.keys)
    }

    /// In the calling thread's network namespace.
    private func destroyHere(
        _ transport: TransportProtocol, _ missing: inout [UInt64: SocketAddress]
    ) throws(BPFError) {
        let wanted = missing
        let (diag, sockets) = try asBPFError { () throws(NetlinkError) in
            let diag = try SocketDiag()
            return (diag, try diag.sockets(transport, where: { wanted[$0.cookie] == $0.peer }))
        }
        for socket in sockets {
            _ = try asBPFError { () throws(NetlinkError) in try diag.destroy(socket) }
            missing[socket.cookie] = nil
        }
    }
}

private func asBPFError<R>(_ body: () throws(NetlinkError) -> R) throws(BPFError) -> R {
    do throws(NetlinkError) { return try body() } catch { throw BPFError(error.operation, error.code) }
}

extension CgroupTree {
    static func namespaces(below cgroup: String) throws(BPFError) -> [NetworkNamespace] {
        do throws(NetnsError) {
            return try CgroupTree(path: cgroup).networkNamespaces()
        } catch {
            throw BPFError("find the pods' network namespaces", error.code, detail: error.description)
        }
    }
}
