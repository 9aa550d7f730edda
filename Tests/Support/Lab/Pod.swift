/// A pod of a lab: a network namespace, a cgroup and a driver process in both. The host of a node and a client outside
/// the cluster are driven the same way, so they are Pods too.
package import Addressing
import Glibc
package import Netns

package final class Pod {
    package let name: String
    /// The node it runs on; nil outside the cluster.
    package let nodeName: String?
    package let v4: IPAddress
    package let v6: IPAddress
    package let namespacePath: String
    /// The cgroup directory its processes live in.
    package let cgroup: String
    private var runningDriver: Driver?
    private var nextID = 0

    init(
        name: String, nodeName: String? = nil, v4: IPAddress, v6: IPAddress, namespacePath: String, cgroup: String
    ) {
        self.name = name
        self.nodeName = nodeName
        self.v4 = v4
        self.v6 = v6
        self.namespacePath = namespacePath
        self.cgroup = cgroup
    }

    package func address(_ family: AddressFamily) -> IPAddress { family == .ipv4 ? v4 : v6 }
    package func namespace() throws -> NetworkNamespace { try NetworkNamespace(path: namespacePath) }

    /// How a socket is opened: TCP, UDP with sendto, or UDP with connect and send.
    package enum Kind: String, CaseIterable, Sendable {
        case tcp
        case udp
        case udpConnected = "udp-connected"

        package var transport: TransportProtocol { self == .tcp ? .tcp : .udp }
    }

    // MARK: Servers

    /// Answers on `port` at both addresses of the pod with its name.
    package func listen(_ transport: TransportProtocol, _ port: UInt16, name: String? = nil) throws(TestFailure) {
        for address in [v4, v6] { try listen(transport, SocketAddress(address, port), name: name) }
    }
    /// Port 0 takes a free one; returns the address that was taken.
    @discardableResult
    package func listen(
        _ transport: TransportProtocol, _ address: SocketAddress, name: String? = nil, isMultipath: Bool = false
    ) throws(TestFailure) -> SocketAddress {
        let lines = try send("listen \(transport) \(address) \(name ?? self.name)\(isMultipath ? " multipath" : "")")
        guard let text = lines.first?.split(separator: " ").last, let bound = SocketAddress(text) else {
            throw TestFailure("pod-driver did not say where it listens")
        }
        return bound
    }
    package func unlisten(_ transport: TransportProtocol, _ address: SocketAddress) throws(TestFailure) {
        _ = try send("unlisten \(transport) \(address)")
    }
    package func unlisten(_ transport: TransportProtocol, _ port: UInt16) throws(TestFailure) {
        for address in [v4, v6] { _ = try send("unlisten \(transport) \(SocketAddress(address, port))") }
    }

    // MARK: Clients

    /// Makes `count` connections, one after the other. `isMapped`: through an IPv6 socket, to the IPv4-mapped address.
    /// `isMultipath`: MPTCP instead of TCP.
    package func flow(
        _ kind: Kind, to destination: SocketAddress, count: Int = 1, timeoutMs: Int = 1000,
        from source: SocketAddress? = nil, isMapped: Bool = false, isMultipath: Bool = false
    ) throws(TestFailure) -> FlowResult {
        let source = source.map { " source=\($0)" } ?? ""
        return FlowResult(
            try send(
                "flow \(kind.rawValue) \(destination) count=\(count) timeout=\(timeoutMs)\(source)"
                    + (isMapped ? " mapped" : "") + (isMultipath ? " multipath" : "")))
    }

    /// Makes `count` TCP connections, each from a network namespace of its own without a route.
    package func crowd(to destination: SocketAddress, count: Int) throws(TestFailure) {
        _ = try send("crowd \(destination) count=\(count)")
    }

    /// Opens a socket and keeps it; the first exchange is in `opening`.
    package func open(
        _ kind: Kind, to destination: SocketAddress, timeoutMs: Int = 1000, isMapped: Bool = false
    ) throws(TestFailure) -> OpenSocket {
        let id = newID()
        let command = "open \(id) \(kind.rawValue) \(destination) timeout=\(timeoutMs)\(isMapped ? " mapped" : "")"
        let opening = FlowResult(try send(command))
        return OpenSocket(pod: self, id: id, opening: opening)
    }

    /// Opens `count` TCP connections and keeps traffic on all of them, a round every `intervalMs`.
    package func hold(
        _ count: Int, to destination: SocketAddress, intervalMs: Int = 5
    ) throws(TestFailure) -> HeldConnections {
        let id = newID()
        // What a proxy passes on waits where the machine is busy.
        _ = try send("hold \(id) \(destination) count=\(count) interval=\(intervalMs) timeout=5000")
        return HeldConnections(pod: self, id: id)
    }

    /// Connects as fast as it can on `threads` threads until `stop()`. `claiming`: from this address, whosever it is.
    package func storm(
        _ kind: Kind, to destination: SocketAddress, threads: Int = 1, timeoutMs: Int = 1000,
        claiming source: SocketAddress? = nil
    ) throws(TestFailure) -> Storm {
        let id = newID()
        let source = source.map { " source=\($0) claimed" } ?? ""
        _ = try send("storm \(id) \(kind.rawValue) \(destination) threads=\(threads) timeout=\(timeoutMs)\(source)")
        return Storm(pod: self, id: id)
    }

    // MARK: Any other program

    /// Starts a program inside the pod; its output goes to `log` (appended) or to the test's own standard error.
    package func spawn(_ command: [String], log: String? = nil) throws(TestFailure) -> ChildProcess {
        let output = log.map { Glibc.open($0, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644) } ?? dup(2)
        guard output >= 0 else { throw .errno("open \(log ?? "standard error")") }
        defer { close(output) }
        let null = Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { close(null) }
        return try ChildProcess(
            Driver.command(namespacePath, cgroup) + ["exec"] + command, descriptors: [null, output, output])
    }
    /// Runs a program inside the pod to its end and returns what it printed.
    @discardableResult
    package func run(_ command: [String], input: String = "") throws(TestFailure) -> String {
        try TestSupport.run(Driver.command(namespacePath, cgroup) + ["exec"] + command, input: input)
    }

    // MARK: The driver

    func send(_ command: String) throws(TestFailure) -> [String] { try driver().send(command) }
    func payload(_ count: Int) throws(TestFailure) -> [UInt8] { try driver().bytes(count) }

    private func driver() throws(TestFailure) -> Driver {
        if let runningDriver { return runningDriver }
        let driver = try Driver(namespacePath: namespacePath, cgroup: cgroup)
        runningDriver = driver
        return driver
    }
    private func newID() -> String {
        nextID += 1
        return "s\(nextID)"
    }

    /// Ends the driver, as the death of the pod would: its sockets close.
    package func stop() { runningDriver = nil }
}
