/// The proxy's end of what PodMessage draws. It goes on with the listeners it has while the agent is away, and keeps a
/// few sockets of each pod in stock: who makes a connection cannot wait for one.
package import Addressing
import Glibc
import HandOver
package import Posix
import Synchronization

package final class PodSocketClient: Sendable {
    package enum Event: Equatable, Sendable {
        /// A listening socket, to be taken over, in place of what there was for this pod.
        case listen(Int32, IPAddress)
        /// The listener and every connection of the pod are to end.
        case close(IPAddress)
        /// The listener is.
        case unlisten(IPAddress)
    }
    /// Sockets of a pod that are kept: twice as many each time somebody finds none.
    package static let stock = 4
    private static let largestStock = 128
    /// Where every connection to an application takes one.
    private static let innerStock = 16

    private struct Stock {
        var sockets: [Int32] = []
        var size = PodSocketClient.stock
        /// Under way.
        var asked = 0
    }
    private struct State {
        var pods: [IPAddress: Stock] = [:]
        /// In this session.
        var named: Set<IPAddress> = []
        var descriptor: Int32 = -1
        var connectsInside = false
        var isStarted = false
        var isStopped = false
    }
    private let state = Mutex(State())
    private let path: String
    private let tell: @Sendable (Event) -> Void
    private let log: @Sendable (_ level: String, _ message: String) -> Void

    /// `tell` hears of events one after the other.
    package init(
        socket path: String, log: @escaping @Sendable (_ level: String, _ message: String) -> Void,
        tell: @escaping @Sendable (Event) -> Void
    ) {
        self.path = path
        self.log = log
        self.tell = tell
    }

    /// Once is enough, more do no harm.
    package func start() throws(PosixError) {
        let isFirst = state.withLock { state in
            defer { state.isStarted = true }
            return !state.isStarted
        }
        if isFirst { try startThread { self.run() } }
    }

    package func stop() {
        state.withLock { state in
            state.isStopped = true
            if state.descriptor >= 0 { shutdown(state.descriptor, Int32(SHUT_RDWR)) }
        }
    }

    /// An unconnected socket of the pod's network namespace, which the caller owns; nil: there is none in stock.
    package func takeSocket(of pod: IPAddress) -> Int32? {
        state.withLock { state in
            guard var stock = state.pods[pod] else { return nil }
            let socket = stock.sockets.popLast()
            if socket == nil { stock.size = min(stock.size * 2, Self.largestStock) }
            refill(&stock, pod, state.descriptor)
            state.pods[pod] = stock
            return socket
        }
    }

    /// The same, where connections to the pod's own applications are to be made from inside; nil: they are not.
    package func takeInnerSocket(of pod: IPAddress) -> Int32? {
        connectsInside ? takeSocket(of: pod) : nil
    }
    package var connectsInside: Bool { state.withLock(\.connectsInside) }

    /// Never waits: what does not go out now is asked for with the next one.
    private func refill(_ stock: inout Stock, _ pod: IPAddress, _ descriptor: Int32) {
        while descriptor >= 0, stock.sockets.count + stock.asked < stock.size {
            guard PodPacket(message: .wantsSocket(pod)).send(to: descriptor, flags: Int32(MSG_DONTWAIT))
            else { return }
            stock.asked += 1
        }
    }

    // MARK: The thread

    private func run() {
        var wasAway = false
        while !state.withLock(\.isStopped) {
            do throws(PosixError) {
                let descriptor = try UnixSocket.connect(path, .packets)
                let isWanted = state.withLock { state in
                    state.descriptor = state.isStopped ? -1 : descriptor
                    return !state.isStopped
                }
                if isWanted {
                    wasAway = false
                    while let packet = PodPacket.receive(from: descriptor) { take(packet) }
                    log("debug", "the agent is away; going on with the listeners of pods that are there")
                }
                state.withLock { state in
                    state.descriptor = -1
                    state.named = []
                    for pod in state.pods.keys { state.pods[pod]?.asked = 0 }
                }
                close(descriptor)
            } catch {
                if !wasAway { log("warning", "\(error): no listeners of pods; trying again") }
                wasAway = true
            }
            usleep(500_000)
        }
        state.withLock { state in
            for stock in state.pods.values { for socket in stock.sockets { close(socket) } }
            state.pods = [:]
        }
    }

    private func take(_ packet: PodPacket) {
        switch packet.message {
        case .pod(let pod) where packet.descriptor >= 0:
            state.withLock { state in
                // Of a network namespace that may be another by now.
                for socket in state.pods[pod]?.sockets ?? [] { close(socket) }
                var stock = Stock()
                stock.asked = state.pods[pod]?.asked ?? 0
                stock.size = state.pods[pod]?.size ?? (state.connectsInside ? Self.innerStock : Self.stock)
                refill(&stock, pod, state.descriptor)
                state.pods[pod] = stock
                state.named.insert(pod)
            }
            tell(.listen(packet.descriptor, pod))
        case .socket(let pod):
            state.withLock { state in
                state.pods[pod]?.asked -= 1
                guard packet.descriptor >= 0 else { return }
                if state.pods[pod] == nil {
                    close(packet.descriptor)
                } else {
                    state.pods[pod]?.sockets.append(packet.descriptor)
                }
            }
        case .isGone(let pod): forget(pod, .close(pod))
        case .hasLeft(let pod): forget(pod, .unlisten(pod))
        case .connectsInside: state.withLock { $0.connectsInside = true }
        case .isComplete:
            let gone = state.withLock { state in state.pods.keys.filter { !state.named.contains($0) } }
            for pod in gone { forget(pod, .close(pod)) }
        case .pod, .wantsSocket:
            if packet.descriptor >= 0 { close(packet.descriptor) }
        }
    }

    private func forget(_ pod: IPAddress, _ event: Event) {
        let former = state.withLock { state in
            state.named.remove(pod)
            return state.pods.removeValue(forKey: pod)
        }
        guard let former else { return }
        for socket in former.sockets { close(socket) }
        tell(event)
    }
}
