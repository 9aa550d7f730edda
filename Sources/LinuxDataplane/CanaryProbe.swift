/// Connects to the canary's address the way a process of a pod would, and looks at who answers.
package import Addressing
import CLinux
package import DataplaneIR
import Glibc

package enum CanaryResult: Equatable, Sendable {
    case passed
    /// Connections to services do not reach their backends; the sentence says what happened.
    case failed(String)
    /// It could not be tried, which says nothing about the dataplane.
    case untried(String)
}

/// One address family's listener. It stays open; probing is for one thread, which it blocks.
package final class CanaryProbe {
    private static let timeoutMs: Int32 = 500
    private let dialled: SocketAddress
    /// The same for the process that dials.
    private let address: UnsafeMutableRawBufferPointer
    private let backend: SocketAddress
    private let listener: Int32
    /// Nobody else can say it.
    private let password: [UInt8]

    /// Listens in the network namespace of the calling thread.
    package init(_ family: AddressFamily) throws(DataplaneError) {
        (dialled, backend) = Canary.addresses(family)
        let bytes = dialled.sockaddrBytes
        address = .allocate(byteCount: bytes.count, alignment: MemoryLayout<sockaddr_in6>.alignment)
        address.copyBytes(from: bytes)
        password = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        listener = socket(family == .ipv4 ? AF_INET : AF_INET6, type, 0)
        var on: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4)
        let bound = withSocketAddress(backend) { bind(listener, $0, $1) }
        guard listener >= 0, bound == 0, listen(listener, 8) == 0 else {
            let code = errno
            throw DataplaneError(
                operation: "listen at \(backend)", code: code,
                description: "cannot listen at \(backend): \(message(code))")
        }
    }
    deinit {
        close(listener)
        address.deallocate()
    }

    /// `cgroup`: where the eBPF programs are attached; nil: the rules of this network namespace are what is tried.
    package func probe(cgroup: String?) -> CanaryResult { Self.probe([self], cgroup: cgroup)[0] }

    /// A result for each. One process tries them all: making one is most of what it costs.
    package static func probe(_ probes: [CanaryProbe], cgroup: String?) -> [CanaryResult] {
        guard !probes.isEmpty else { return [] }
        let all = { (result: CanaryResult) in probes.map { _ in result } }
        var procs: String?
        if let cgroup {
            let child = Self.child(of: cgroup)
            guard mkdir(child, 0o755) == 0 || errno == EEXIST else {
                let code = errno
                guard code == ENOENT else { return all(.untried("cannot make cgroup \(child): \(message(code))")) }
                let remedy = "pass one that exists as --cgroup and restart heddle-agent"
                return all(.failed("cgroup \(cgroup) is gone; \(remedy)"))
            }
            procs = child + "/cgroup.procs"
        }
        let canaries = probes.map(\.canary)
        var reports = probes.map { _ in clinux_canary_report() }
        let started = withOptionalCString(procs) { procs in
            clinux_canaries_run(procs, canaries, &reports, Int32(canaries.count))
        }
        guard started == 0 else { return all(.untried("cannot start a process: \(message(errno))")) }
        return zip(probes, reports).map { $0.judge($1) }
    }

    private var canary: clinux_canary {
        var canary = clinux_canary()
        (canary.to, canary.size) = (UnsafeRawPointer(address.baseAddress), UInt32(address.count))
        (canary.listener, canary.timeout_ms) = (listener, Self.timeoutMs)
        withUnsafeMutableBytes(of: &canary.password) { $0.copyBytes(from: password) }
        return canary
    }

    private static func child(of cgroup: String) -> String { cgroup + "/heddle-canary" }
    /// Takes away what probing left there.
    package static func removeChild(of cgroup: String) { rmdir(child(of: cgroup)) }

    private func judge(_ report: clinux_canary_report) -> CanaryResult {
        let peer = withUnsafeBytes(of: report.peer) { SocketAddress(sockaddr: $0) }
        switch UInt32(report.step) {
        case CLINUX_CANARY_KILLED.rawValue: return .untried("the process that tried was killed")
        case CLINUX_CANARY_JOIN.rawValue:
            return .untried("cannot put a process into a cgroup below --cgroup: \(message(report.error))")
        case CLINUX_CANARY_CONNECT.rawValue where report.error == ECONNREFUSED:
            return .failed("a connection to \(dialled) was not translated: nobody does it, or somebody else did before")
        case CLINUX_CANARY_CONNECT.rawValue:
            return .failed("connecting to \(dialled) failed: \(message(report.error))")
        case CLINUX_CANARY_READ.rawValue:
            return .failed("a connection to \(dialled) reached somebody who says nothing: \(message(report.error))")
        default: break
        }
        let answer = withUnsafeBytes(of: report.answer) { Array($0.prefix(max(0, Int(report.count)))) }
        guard answer == password else {
            return .failed("a connection to \(dialled) reached somebody else than \(backend)")
        }
        guard peer == dialled else {
            return .failed(
                "a connection to \(dialled) shows \(peer.map(\.description) ?? "nothing") as its peer: getpeername is "
                    + "not translated")
        }
        return .passed
    }
}

private func message(_ code: Int32) -> String { String(cString: strerror(code)) }

private func withOptionalCString<R>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> R) -> R {
    guard let text else { return body(nil) }
    return text.withCString { body($0) }
}

/// For system calls.
func withSocketAddress<R>(
    _ address: SocketAddress, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
) -> R {
    address.sockaddrBytes.withUnsafeBytes { raw in
        guard let start = raw.baseAddress else { preconditionFailure("an address has bytes") }
        return body(start.assumingMemoryBound(to: sockaddr.self), socklen_t(raw.count))
    }
}
