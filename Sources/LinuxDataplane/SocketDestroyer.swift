/// Ends UDP sockets. A connected one passes no hook when it sends, so when its backend is gone nothing else tells the
/// program behind it; now receiving fails with ECONNABORTED and sending with EDESTADDRREQ, and it connects again, to a
/// backend that lives (spec rows 114-120, 134).
import BPF
import Glibc
import Netlink
import Netns

struct SocketDestroyer {
    /// Sockets are looked for in the network namespaces that processes of this cgroup live in: sock_diag has to be
    /// asked in each.
    let cgroup: String

    /// Ends the sockets with these cookies and returns those it did not find. `willDestroy` is called just before each.
    func destroyUDP(
        _ cookies: Set<UInt64>, willDestroy: (UInt64) throws(BPFError) -> Void
    ) throws(BPFError) -> Set<UInt64> {
        let namespaces: [NetworkNamespace]
        do throws(NetnsError) {
            namespaces = try CgroupTree(path: cgroup).networkNamespaces()
        } catch {
            throw BPFError("find the pods' network namespaces", error.code, detail: error.description)
        }
        var missing = cookies
        for namespace in namespaces where !missing.isEmpty {
            try namespace.run(refusal: { BPFError($0.operation, $0.code) }) { () throws(BPFError) in
                try destroyHere(&missing, willDestroy)
            }
        }
        return missing
    }

    /// In the calling thread's network namespace.
    private func destroyHere(
        _ missing: inout Set<UInt64>, _ willDestroy: (UInt64) throws(BPFError) -> Void
    ) throws(BPFError) {
        do throws(NetlinkError) {
            let socket = try NetlinkSocket(.sockDiag)
            for family in [UInt8(AF_INET), UInt8(AF_INET6)] {
                for found in try list(socket, family, missing) {
                    let failure = perform { () throws(BPFError) in try willDestroy(found.cookie) }
                    if let failure { throw NetlinkError(operation: failure.operation, code: failure.code) }
                    try destroy(socket, family, found.identity)
                    missing.remove(found.cookie)
                }
            }
        } catch {
            throw BPFError(error.operation, error.code)
        }
    }

    private func perform(_ body: () throws(BPFError) -> Void) -> BPFError? {
        do throws(BPFError) { try body() } catch { return error }
        return nil
    }

    private struct Found {
        /// struct inet_diag_sockid: addresses, ports, interface and the cookie that no other socket has.
        var identity: [UInt8]
        var cookie: UInt64
    }

    private func list(
        _ socket: NetlinkSocket, _ family: UInt8, _ wanted: Set<UInt64>
    ) throws(NetlinkError) -> [Found] {
        try socket.list(type: Diag.byFamily, operation: "list UDP sockets") { request in
            request.appendRequest(family, identity: [UInt8](repeating: 0, count: Diag.identitySize))
        } read: { message, result in
            guard message.type == Diag.byFamily, message.payload.byteCount >= Diag.messageSize else { return }
            message.payload.withUnsafeBytes { payload in
                let at = Diag.identityOffset
                let cookie = payload.loadUnaligned(fromByteOffset: at + Diag.cookieOffset, as: UInt64.self)
                guard wanted.contains(cookie) else { return }
                result.append(Found(identity: Array(payload[at..<at + Diag.identitySize]), cookie: cookie))
            }
        }
    }

    private func destroy(_ socket: NetlinkSocket, _ family: UInt8, _ identity: [UInt8]) throws(NetlinkError) {
        do throws(NetlinkError) {
            try socket.request(type: Diag.destroy, operation: "end a UDP socket") { request in
                request.appendRequest(family, identity: identity)
            }
        } catch  where error.code == ENOENT {
            // Closed meanwhile.
        }
    }
}

/// From linux/sock_diag.h and linux/inet_diag.h.
private enum Diag {
    static let byFamily: UInt16 = 20
    static let destroy: UInt16 = 21
    /// struct inet_diag_msg: four bytes, the identity, five numbers. The cookie is at the identity's end.
    static let identityOffset = 4
    static let identitySize = 48
    static let cookieOffset = 40
    static let messageSize = identityOffset + identitySize + 20
}

extension MessageWriter {
    /// struct inet_diag_req_v2 for UDP sockets in any state.
    fileprivate mutating func appendRequest(_ family: UInt8, identity: [UInt8]) {
        append(family)
        append(UInt8(IPPROTO_UDP))
        append(UInt16(0))
        append(UInt32.max)
        identity.withUnsafeBytes { append($0) }
    }
}
