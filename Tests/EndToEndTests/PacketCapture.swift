/// What a link carries, as anybody on it sees it.
import Glibc
import Netns
import TestSupport

final class PacketCapture: Sendable {
    private let descriptor: Int32

    /// Of everything that passes this interface from now on, in both directions.
    init(of interface: String, in namespace: NetworkNamespace) throws {
        descriptor = try namespace.run {
            let everything = UInt16(0x0003).bigEndian
            let descriptor = socket(AF_PACKET, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), Int32(everything))
            guard descriptor >= 0 else { throw TestFailure.errno("open a packet socket") }
            // sockaddr_ll
            var place = [UInt8](repeating: 0, count: 20)
            place.withUnsafeMutableBytes { raw in
                raw.storeBytes(of: UInt16(AF_PACKET), as: UInt16.self)
                raw.storeBytes(of: everything, toByteOffset: 2, as: UInt16.self)
                raw.storeBytes(of: Int32(if_nametoindex(interface)), toByteOffset: 4, as: Int32.self)
            }
            let result = place.withUnsafeBytes { raw in
                raw.withMemoryRebound(to: sockaddr.self) { bind(descriptor, $0.baseAddress, socklen_t(raw.count)) }
            }
            guard result == 0 else { throw TestFailure.errno("capture on \(interface)") }
            return descriptor
        }
        var room: Int32 = 16 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &room, socklen_t(MemoryLayout<Int32>.size))
    }
    deinit { close(descriptor) }

    /// How many packets contain the text, of those since it was asked last.
    func count(of text: String) -> Int {
        let marker = Array(text.utf8)
        var found = 0
        forEachPacket { packet in
            if packet.withUnsafeBytes({ offset(of: marker, in: $0) != nil }) { found += 1 }
        }
        return found
    }
    /// Of what has passed so far nothing counts.
    func forget() { forEachPacket { _ in } }

    private func forEachPacket(_ body: (ArraySlice<UInt8>) -> Void) {
        var packet = [UInt8](repeating: 0, count: 70_000)
        while true {
            let count = recv(descriptor, &packet, packet.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { return }
            body(packet[..<count])
        }
    }
}
