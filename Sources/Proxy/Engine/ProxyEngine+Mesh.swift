/// What the mesh asks of all event loops together: certificates, tunnels in, pods that are gone.
package import Addressing
import NIOCore
import NIOPosix
import Posix
import Synchronization

extension ProxyEngine {
    /// While a listener's successor takes over, for those who knocked at the older one.
    private static let succession = TimeAmount.seconds(5)

    /// Later connections use them; open ones go on.
    package func adopt(_ credentials: WorkloadCredentials) {
        let ready = state.withLock { state in
            state.credentials = TunnelCredentials(credentials, replacing: state.credentials)
            return state.credentials
        }
        for shard in shards { shard.loop.execute { shard.adopt(ready) } }
    }

    /// Takes tunnels to this pod on a listening socket, which it takes over. An older one for the pod still serves
    /// those who are in its queue.
    package func listen(tunnels descriptor: Int32, of pod: IPAddress) async throws {
        let channel = try await TunnelListener.open(descriptor, of: pod, group: group, for: shards)
        let (older, isLate) = state.withLock { state in
            defer { if !state.isDraining { state.tunnels[pod] = channel } }
            return (state.tunnels[pod], state.isDraining)
        }
        if isLate { channel.close(promise: nil) }
        guard let older else { return }
        state.withLock { $0.retiring[pod, default: []].append(older) }
        older.eventLoop.scheduleTask(in: Self.succession) {
            self.state.withLock { state in
                state.retiring[pod]?.removeAll { $0 === older }
                if state.retiring[pod]?.isEmpty == true { state.retiring[pod] = nil }
            }
            older.close(promise: nil)
        }
    }

    /// The pod is gone: its listener, and every connection from it and to it, end at once.
    package func close(pod: IPAddress) {
        unlisten(pod: pod)
        for shard in shards { shard.loop.execute { shard.close(pod: pod) } }
    }

    /// The pod lives on outside the mesh: no more tunnels to it, and those that are open go on.
    package func unlisten(pod: IPAddress) {
        let listeners = state.withLock { state in
            let own = state.tunnels.removeValue(forKey: pod).map { [$0] } ?? []
            return own + (state.retiring.removeValue(forKey: pod) ?? [])
        }
        for listener in listeners { listener.close(promise: nil) }
    }
}
