/// A message about a pod on its way: with the descriptor that goes beside it.
import CLinux
import Glibc
import HandOver

/// Where the sockets of pods change hands: beside the socket of the hand-over.
package enum PodSockets {
    /// `/run/heddle/proxy.sock` has `/run/heddle/proxy-pods.sock` beside it.
    package static func path(beside socket: String) -> String {
        let suffix = ".sock"
        return (socket.hasSuffix(suffix) ? String(socket.dropLast(suffix.count)) : socket) + "-pods" + suffix
    }
}

struct PodPacket {
    let message: PodMessage
    /// Whoever receives it owns it; -1: none.
    var descriptor: Int32 = -1

    /// False if the other side is gone or has no room in time.
    func send(to socket: Int32, flags: Int32 = 0) -> Bool {
        let bytes = message.bytes
        return clinux_send_packet(socket, bytes, bytes.count, descriptor, flags) == bytes.count
    }

    /// The next one that this release knows; nil: the other side is gone or does not speak this language.
    static func receive(from socket: Int32) -> PodPacket? {
        while true {
            var bytes = [UInt8](repeating: 0, count: 64)
            var descriptor: Int32 = -1
            let count = clinux_receive_packet(socket, &bytes, bytes.count, &descriptor)
            guard count > 0 else {
                if descriptor >= 0 { close(descriptor) }
                return nil
            }
            if let message = PodMessage(bytes: bytes.prefix(count)) {
                return PodPacket(message: message, descriptor: descriptor)
            }
            // Of a newer release.
            if descriptor >= 0 { close(descriptor) }
        }
    }
}
