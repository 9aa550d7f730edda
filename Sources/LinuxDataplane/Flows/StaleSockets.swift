/// Connected UDP sockets whose backend is gone. Such a socket passes no hook when it sends: it is connected anew from
/// here, to the address its program dialled, and the hooks of its cgroup send it to a backend that serves, or leave it
/// at the service's address until there is one. Its own address and port stay, its program notices nothing. Where that
/// cannot be done the socket is ended: receiving fails with ECONNABORTED and sending with EDESTADDRREQ, and the program
/// connects again (spec rows 114-120, 134).
import Addressing
import BPF
import CLinux
import Glibc
import Netlink
import Netns

struct StaleSockets {
    struct Socket {
        let dialled: SocketAddress
        /// Where it goes, which is gone; the dialled address where it waits for endpoints.
        let backend: SocketAddress
        /// The service that was dialled is still there.
        let hasService: Bool
    }
    struct Outcome {
        /// Away from a backend, whether to another or to wait for one.
        var moved = 0
        var ended = 0
        /// In no network namespace with a process of the cgroup, or closed meanwhile. Those that go elsewhere by now
        /// are in none of the three.
        var missing: Set<UInt64> = []
    }

    /// Sockets are looked for in the network namespaces that processes of this cgroup live in: sock_diag has to be
    /// asked in each.
    let cgroup: String
    /// See `DescriptorSearch`. Whoever is not found within it is ended.
    let linksPerContainer: Int

    /// Moves or ends those of these cookies that still go to their backend.
    func mend(_ stale: [UInt64: Socket]) throws(BPFError) -> Outcome {
        var outcome = Outcome(missing: Set(stale.keys))
        var search = DescriptorSearch(limit: linksPerContainer)
        let namespaces = try CgroupTree.inhabitedNamespaces(below: cgroup)
        for (namespace, processes) in namespaces where !outcome.missing.isEmpty {
            try namespace.run(refusal: { BPFError($0.operation, $0.code) }) { () throws(BPFError) in
                try mendHere(stale, processes, &search, &outcome)
            }
        }
        return outcome
    }

    /// In the calling thread's network namespace.
    private func mendHere(
        _ stale: [UInt64: Socket], _ processes: [Int32], _ search: inout DescriptorSearch, _ outcome: inout Outcome
    ) throws(BPFError) {
        let (diag, found) = try asBPFError { () throws(NetlinkError) in
            let diag = try SocketDiag()
            let found = try diag.sockets(.udp) { socket in
                guard let known = stale[socket.cookie] else { return false }
                outcome.missing.remove(socket.cookie)
                return known.backend == socket.peer
            }
            return (diag, found)
        }
        let movable = Dictionary(
            found.filter { stale[$0.cookie]?.hasService == true }.map { ($0.inode, $0) }, uniquingKeysWith: { $1 })
        var moved = Set<UInt64>()
        search.find(Set(movable.keys), among: processes) { inode, pid, descriptor in
            guard let socket = movable[inode], let dialled = stale[socket.cookie]?.dialled,
                let copy = SocketCopy.of(descriptor, in: pid), copy.cookie == socket.cookie
            else { return false }
            // The program may have connected or disconnected it since it was listed. What is left of that race is the
            // time between this question and our connect: then the service that it had dialled before wins. If it has
            // dialled the same service again, it is sent to one more of its backends.
            if copy.peer == dialled, copy.connect(to: dialled, asIPv6: socket.isIPv6) { moved.insert(socket.cookie) }
            return true
        }
        for socket in found {
            if moved.contains(socket.cookie) {
                if stale[socket.cookie].map({ $0.backend != $0.dialled }) == true { outcome.moved += 1 }
            } else if try asBPFError({ () throws(NetlinkError) in try diag.destroy(socket) }) {
                // Nothing happens to one that does not go to the backend any more.
                outcome.ended += 1
            }
        }
    }
}

/// A descriptor of ours for a program's socket: what we do with it happens to the program's.
private struct SocketCopy: ~Copyable {
    private let descriptor: Int32

    private init(descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }

    /// nil: it is closed by now, or the kernel does not let us (Yama's ptrace_scope 3, a security module).
    static func of(_ theirs: Int32, in pid: Int32) -> SocketCopy? {
        let process = clinux_open_process(pid)
        guard process >= 0 else { return nil }
        defer { close(process) }
        let ours = clinux_copy_descriptor(process, theirs)
        return ours < 0 ? nil : SocketCopy(descriptor: ours)
    }

    /// nil: it is no socket.
    var cookie: UInt64? {
        let soCookie: Int32 = 57
        var cookie: UInt64 = 0
        var size = socklen_t(MemoryLayout<UInt64>.size)
        return getsockopt(descriptor, SOL_SOCKET, soCookie, &cookie, &size) == 0 ? cookie : nil
    }

    /// As its program sees it: the service while our hooks recognise the backend, nil when it is not connected.
    var peer: SocketAddress? {
        var name = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &size) }
        }
        guard result == 0 else { return nil }
        return withUnsafeBytes(of: &name) {
            SocketAddress(sockaddr: UnsafeRawBufferPointer(rebasing: $0[..<Int(size)]))
        }
    }

    /// The kernel runs the programs of the socket's own cgroup, in the socket's own network namespace. A scope is not
    /// needed: the address it would belong to is replaced there.
    func connect(to service: SocketAddress, asIPv6: Bool) -> Bool {
        service.sockaddrBytes(asIPv6: asIPv6).withUnsafeBytes { raw in
            raw.withMemoryRebound(to: sockaddr.self) { name in
                Glibc.connect(descriptor, name.baseAddress, socklen_t(raw.count)) == 0
            }
        }
    }
}

private func asBPFError<R>(_ body: () throws(NetlinkError) -> R) throws(BPFError) -> R {
    do throws(NetlinkError) { return try body() } catch { throw BPFError(error.operation, error.code) }
}

extension CgroupTree {
    static func namespaces(below cgroup: String) throws(BPFError) -> [NetworkNamespace] {
        try inhabitedNamespaces(below: cgroup).map(\.namespace)
    }

    static func inhabitedNamespaces(
        below cgroup: String
    ) throws(BPFError) -> [(namespace: NetworkNamespace, processes: [Int32])] {
        do throws(NetnsError) {
            return try CgroupTree(path: cgroup).inhabitedNamespaces()
        } catch {
            throw BPFError("find the pods' network namespaces", error.code, detail: error.description)
        }
    }
}
