/// The configuration side of an L7 proxy: connects to an agent, takes every update, answers every question.
import Glibc
import HandOver
import Posix
package import RouteIR
import Synchronization

package final class FakeProxy: Sendable {
    private struct State {
        var snapshot: ProxySnapshot
        var refusal: String?
    }
    private let descriptor: Int32
    private let state = Mutex(State(snapshot: ProxySnapshot(node: ProxyNode(name: ""))))

    /// The configuration it took last.
    package var snapshot: ProxySnapshot { state.withLock(\.snapshot) }
    /// From now on it refuses with this reason; nil: it takes everything again.
    package func refuse(_ reason: String?) { state.withLock { $0.refusal = reason } }

    package init(socket path: String, pid: UInt32 = 4242) throws(TestFailure) {
        do throws(PosixError) {
            descriptor = try UnixSocket.connect(path)
            send(.hello(version: "fake", pid: pid, generation: 0))
            try startThread { self.loop() }
        } catch { throw TestFailure("\(error)") }
    }

    /// Hangs up.
    package func stop() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    private func loop() {
        var received: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            guard count > 0 else { break }
            received += chunk[..<count]
            while let length = takeOne(received) { received.removeFirst(length) }
        }
        close(descriptor)
    }

    /// The length of the message at the beginning; nil: it is not whole.
    private func takeOne(_ bytes: [UInt8]) -> Int? {
        guard let (message, length) = try? HandOverFrame.decode(bytes.span) else { return nil }
        switch message {
        case .update(let update): send(answer(to: update))
        case .query(let id, let text): send(.answer(id: id, Array("{\"asked\":\"\(text)\"}".utf8)))
        case .hello, .ack, .nack, .answer, .certificate, .certified, .ownSockets, .unknown: break
        }
        return length
    }

    private func answer(to update: ProxyUpdate) -> HandOverMessage {
        state.withLock { state in
            if let refusal = state.refusal { return .nack(update.generation, reason: refusal) }
            guard let next = state.snapshot.applying(update) else {
                return .nack(update.generation, reason: "it does not fit generation \(state.snapshot.generation)")
            }
            state.snapshot = next
            return .ack(update.generation)
        }
    }

    private func send(_ message: HandOverMessage) {
        let bytes = HandOverFrame.encode(message)
        _ = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }
}
