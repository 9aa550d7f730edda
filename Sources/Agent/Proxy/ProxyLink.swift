/// How the actor reaches the proxies of the node.
import HandOver
import NodeControl
import RouteIR

struct ProxyLink: Sendable {
    var publish: @Sendable (ProxySnapshot) -> Void
    /// A question to the newest proxy; nil: no answer.
    var ask: @Sendable (String, @escaping @Sendable ([UInt8]?) -> Void) -> Void
    /// Whether one must run, and which are here.
    var update: @Sendable (_ isNeeded: Bool, ProxySuccession) -> Void
    /// Whether a proxy runs the program that would be started now.
    var isCurrent: @Sendable (ConnectedProxy) -> Bool = { _ in true }
    /// Asks a proxy to end once it has finished what it does.
    var drain: @Sendable (_ pid: UInt32) -> Void = { _ in }
}
