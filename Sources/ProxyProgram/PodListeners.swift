/// The pods of this node whose tunnels this proxy serves: the agent hands over a listener for each.
import Addressing
import HandOverLink
import Posix
import Proxy

final class PodListeners: Sendable {
    private let events: AsyncStream<PodSocketClient.Event>
    private let end: AsyncStream<PodSocketClient.Event>.Continuation
    private let client: PodSocketClient
    private let log: @Sendable (String, String) -> Void

    init(socket: String, log: @escaping @Sendable (String, String) -> Void) {
        let (events, tell) = AsyncStream<PodSocketClient.Event>.makeStream()
        (self.events, end) = (events, tell)
        self.log = log
        client = PodSocketClient(socket: socket, log: log) { tell.yield($0) }
    }

    /// Once this node takes part in the mesh; more than once does no harm.
    func start() {
        do throws(PosixError) { try client.start() } catch { log("error", "\(error): no tunnels come in") }
    }
    /// What is there is the engine's to end.
    func stop() {
        client.stop()
        end.finish()
    }

    func takeSocket(of pod: IPAddress) -> Int32? { client.takeSocket(of: pod) }
    func takeInnerSocket(of pod: IPAddress) -> Int32? { client.takeInnerSocket(of: pod) }
    var connectsInside: Bool { client.connectsInside }

    /// Until `stop`.
    func serve(_ engine: ProxyEngine) async {
        for await event in events {
            switch event {
            case .listen(let descriptor, let pod):
                do { try await engine.listen(tunnels: descriptor, of: pod) } catch {
                    log("error", "tunnels to \(pod) do not come in: \(error)")
                }
            case .close(let pod): engine.close(pod: pod)
            case .unlisten(let pod): engine.unlisten(pod: pod)
            }
        }
    }
}
