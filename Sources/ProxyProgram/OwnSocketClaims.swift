/// Tells the kernel which of the proxy's sockets go to an application of this node, and for which client: so a pod that
/// refuses plaintext lets them in, and the application sees the client instead of the node (bpf/own.bpf.c).
import Addressing
import CDataplaneABI
import Glibc
import HandOver
import Synchronization

final class OwnSocketClaims: Sendable {
    private struct State {
        /// nil: the agent wants no claims.
        var token: OwnSocketToken?
        /// The kernel's last answer; nil: none since the token came.
        var answer: Int32?
    }
    private let state = Mutex(State())
    private let tell: @Sendable (String) -> Void

    init(tell: @escaping @Sendable (String) -> Void) { self.tell = tell }

    /// Whatever went wrong with an earlier one is tried again.
    func adopt(_ token: OwnSocketToken?) { state.withLock { $0 = State(token: token) } }

    /// A fresh socket of the proxy's own that is claimed; nil: the kernel does not take it, or no claims are wanted.
    func makeSocket(_ family: AddressFamily, for client: SocketAddress) -> Int32? {
        guard let token = state.withLock(\.token) else { return nil }
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = socket(family == .ipv4 ? AF_INET : AF_INET6, type, 0)
        guard descriptor >= 0 else { return nil }
        var claim = heddle_own_claim()
        withUnsafeMutableBytes(of: &claim.token) { $0.copyBytes(from: token.bytes) }
        claim.client = heddle_address(high: client.address.high.bigEndian, low: client.address.low.bigEndian)
        claim.client_port = client.port.bigEndian
        let size = socklen_t(MemoryLayout<heddle_own_claim>.size)
        let answer = setsockopt(descriptor, HEDDLE_OWN_LEVEL, HEDDLE_OWN_OPTION, &claim, size) == 0 ? 0 : errno
        note(answer)
        guard answer != 0 else { return descriptor }
        close(descriptor)
        return nil
    }

    private func note(_ answer: Int32) {
        let isNews = state.withLock { state in
            defer { state.answer = answer }
            return state.answer != answer
        }
        guard isNews, answer != 0 else { return }
        tell(
            "the kernel does not know our sockets, \(String(cString: strerror(answer))): applications see "
                + "themselves instead of the client; the agent's log says why"
        )
    }
}
