/// The answer to `/programmed`, which the controller asks of every node: small, and without a question to the kernel.
import AdminAPI
import Cluster
import DataplaneIR
import NodeControl

extension ProgrammedReport {
    /// A full map may refuse thousands; whoever must know all asks this node.
    static let mostRefused = 20

    init(_ contents: StatusBoard.Contents, now: Duration) {
        let versions = contents.written.merging(contents.inForce) { $1 }
        self.init(
            node: contents.status.node,
            reached: Dictionary(
                uniqueKeysWithValues: versions.compactMap { kind, version in
                    // What the proxy serves is in force once it serves it, the rest with the kernel.
                    let reached = kind.isRoute ? contents.inForce[kind] : contents.written[kind]
                    return reached.map { (kind.rawValue, $0) }
                }))
        let wait: (cause: String, since: Duration?)? =
            if !contents.status.ready {
                (Cause.source, contents.startedAt)
            } else if let since = contents.oldestPending {
                (Cause.kernel, since)
            } else if let since = contents.waitsForProxySince {
                (contents.status.proxy.mode == NodeSettings.ProxyMode.off.rawValue ? Cause.noProxy : Cause.proxy, since)
            } else {
                nil
            }
        waitsFor = wait?.cause
        waitsSeconds = wait.flatMap { $0.since }.map { max(.zero, now - $0).seconds }
        let services = Set(contents.refused.keys.map { ObjectName($0.namespace, $0.service) })
        refused = services.sorted().prefix(Self.mostRefused).map(\.description)
        refusedCount = services.count
    }
}
