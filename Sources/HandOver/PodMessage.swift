/// What agent and proxy say to each other about the pods whose tunnels the proxy serves, one packet a message; some
/// carry a descriptor beside them. Pure: PodSocketServer and PodSocketClient send it.
///
///     agent                                   proxy
///       pod(address) + listener         ──►   serves it; once more for a pod it knows: a new listener
///       connectsInside                  ──►   (where the dataplane knows no other way to tell its connections)
///       isComplete                      ──►   takes for gone what was not named since the connection began
///       isGone(address)                 ──►   closes the listener and every connection of the pod
///       hasLeft(address)                ──►   closes the listener: the pod lives on outside the mesh
///                                       ◄──   wantsSocket(address)
///       socket(address) + socket        ──►   to connect with, from the pod's own network namespace
package import Addressing

package enum PodMessage: Equatable, Sendable {
    case pod(IPAddress)
    case isComplete
    case isGone(IPAddress)
    case hasLeft(IPAddress)
    case wantsSocket(IPAddress)
    /// Without a descriptor: there is none to be had.
    case socket(IPAddress)
    /// To an application behind a tunnel the proxy connects from inside the pod: what a pod sends to itself passes.
    case connectsInside

    /// Bytes of a packet: a tag and an address.
    package static let length = 17

    package var bytes: [UInt8] {
        let (tag, address): (UInt8, IPAddress) =
            switch self {
            case .pod(let address): (1, address)
            case .isComplete: (2, IPAddress(high: 0, low: 0))
            case .isGone(let address): (3, address)
            case .wantsSocket(let address): (4, address)
            case .socket(let address): (5, address)
            case .connectsInside: (6, IPAddress(high: 0, low: 0))
            case .hasLeft(let address): (7, address)
            }
        return [tag] + address.mappedBytes
    }

    /// nil: no message of this release.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.length, let tag = bytes.first,
            let address = Array(bytes.dropFirst()).withUnsafeBytes({ IPAddress(networkBytes: $0) })
        else { return nil }
        switch tag {
        case 1: self = .pod(address)
        case 2: self = .isComplete
        case 3: self = .isGone(address)
        case 4: self = .wantsSocket(address)
        case 5: self = .socket(address)
        case 6: self = .connectsInside
        case 7: self = .hasLeft(address)
        default: return nil
        }
    }
}
