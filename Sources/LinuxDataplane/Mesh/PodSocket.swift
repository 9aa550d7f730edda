/// Sockets made in the network namespace of a pod. They stay there whoever uses them, and keep the namespace.
package import Addressing
package import DataplaneIR
import Glibc
package import Netns

package enum PodSocket {
    /// Connections that may wait to be taken.
    private static let backlog: Int32 = 1024

    /// One to connect with: non-blocking, and nothing else done to it.
    package static func unconnected(
        _ family: AddressFamily, in namespace: NetworkNamespace
    ) throws(DataplaneError) -> Int32 {
        try namespace.run(refusal: DataplaneError.init) { () throws(DataplaneError) in try make(family) }
    }

    /// One that listens at this address, on any free port if none is given.
    package static func listener(
        at address: SocketAddress, in namespace: NetworkNamespace
    ) throws(DataplaneError) -> Int32 {
        try namespace.run(refusal: DataplaneError.init) { () throws(DataplaneError) in
            let descriptor = try make(address.address.family)
            var one: Int32 = 1
            setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &one, socklen_t(MemoryLayout<Int32>.size))
            guard withSocketAddress(address, { bind(descriptor, $0, $1) }) == 0, listen(descriptor, backlog) == 0
            else {
                let error = DataplaneError("listen at \(address) in the network namespace of a pod", errno)
                close(descriptor)
                throw error
            }
            return descriptor
        }
    }

    /// What the kernel calls the network namespace of a socket.
    package static func namespaceCookie(of descriptor: Int32) -> UInt64? {
        try? networkNamespaceCookie(of: descriptor)
    }

    static func port(of descriptor: Int32) -> UInt16? {
        var address = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
        }
        guard result == 0 else { return nil }
        // Both families have it at the same place.
        return withUnsafeBytes(of: address) { UInt16(bigEndian: $0.load(fromByteOffset: 2, as: UInt16.self)) }
    }

    private static func make(_ family: AddressFamily) throws(DataplaneError) -> Int32 {
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(family == .ipv4 ? AF_INET : AF_INET6, kind, 0)
        guard descriptor >= 0 else {
            throw DataplaneError("open a socket in the network namespace of a pod", errno)
        }
        return descriptor
    }
}

extension DataplaneError {
    init(_ operation: String, _ code: Int32) {
        self.init(
            operation: operation, code: code, description: "cannot \(operation): \(String(cString: strerror(code)))")
    }
    init(_ error: NetnsError) {
        self.init(operation: error.operation, code: error.code, description: error.description)
    }
}
