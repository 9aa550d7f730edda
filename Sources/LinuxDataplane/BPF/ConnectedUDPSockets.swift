/// The connected UDP sockets of all network namespaces that point at the backend of a service, by cookie. The kernel
/// is asked when somebody wants to know: connecting and closing cost nothing for it, and no pod's sockets can take the
/// room of another's.
import BPF
import BPFPrograms
import CDataplaneABI

struct ConnectedUDPSockets {
    private let iterator: SocketIterator<heddle_udp_socket>

    /// `origins`: the map socket_origin, whichever programs fill it.
    init(origins: BPFDescriptor) throws(BPFError) {
        var object = try BPFObject(name: "heddle_sockets", image: BPFObjectImage.sockets.bytes)
        try object.load()
        iterator = try SocketIterator(object.program("udp_sockets"), over: origins, name: "udp_sockets")
    }

    func list() throws(BPFError) -> [UInt64: heddle_origin] {
        var result: [UInt64: heddle_origin] = [:]
        try iterator.forEach { result[$0.cookie] = $0.origin }
        return result
    }
}
