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

    /// What `pick` makes of those it picks: a pod may have very many that nobody asks for.
    func list<Value>(_ pick: (_ cookie: UInt64, heddle_origin) -> Value?) throws(BPFError) -> [UInt64: Value] {
        var result: [UInt64: Value] = [:]
        try iterator.forEach { socket in
            if let value = pick(socket.cookie, socket.origin) { result[socket.cookie] = value }
        }
        return result
    }
}
