/// What the controller must know of the agent's options: a value that never changes.
package import Addressing
package import DataplaneIR
package import RouteIR

package struct NodeSettings: Equatable, Sendable {
    package enum ProxyMode: String, Sendable, CaseIterable {
        case spawn, external, off
    }
    package enum L7Failure: String, Sendable, CaseIterable {
        case open, closed
    }
    package enum NodePortAddresses: Equatable, Sendable {
        /// The addresses of the Node object.
        case primary
        case all
        case cidrs([IPPrefix])
    }
    package enum DetectLocal: Equatable, Sendable {
        case clusterCIDR, nodeCIDR
        case bridge(String)
        case interfacePrefix(String)
    }
    /// When the last good state is written and used.
    package struct Snapshots: Equatable, Sendable {
        /// How long the source may take for its first lists.
        package var patience = Duration.seconds(5)
        /// From a change to its snapshot, and the least time between two: writing costs as much as the cluster is
        /// large.
        package var delay = Duration.seconds(5)
        package var interval = Duration.seconds(60)
        package init() {}
    }

    package var nodeName: String
    /// An API server: it knows every node. A directory need not.
    package var sourceKnowsNodes = false
    package var sourceNames = ["source"]
    /// The sources that tell of pods only when asked to.
    package var podSources: Set<Int> = []
    package var serviceProxyName: String?
    package var servesExternalIPs = true
    package var minSyncPeriod = Duration.milliseconds(10)
    package var proxy = ProxyMode.spawn
    package var proxyPort: UInt16 = 15001
    package var l7Failure = L7Failure.closed
    /// nil: the node takes no part in the mesh, whatever labels say.
    package var mesh: ProxyMesh?
    /// What of ours listens where.
    package var ownPorts: [UInt16: String] = [:]
    package var nodePortAddresses = NodePortAddresses.primary
    package var nodePortLoopback = false
    package var clusterCIDRs: [IPPrefix] = []
    package var masqueradeAll = false
    package var masqueradeBit: UInt8 = 14
    package var detectLocal = DetectLocal.clusterCIDR
    /// Where pods of other nodes may be. A family without a range has those that are a network's own; of IPv6 also all
    /// that the internet has, which clouds give to pods.
    var podRanges: [IPPrefix] {
        let own: [AddressFamily: [String]] = [
            .ipv4: ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"], .ipv6: ["fc00::/7", "2000::/3"],
        ]
        return AddressFamily.allCases.flatMap { family in
            let given = clusterCIDRs.filter { $0.family == family }
            return given.isEmpty ? own[family, default: []].compactMap { IPPrefix($0) } : given
        }.sorted()
    }
    /// In the kernel whatever the cluster's services are.
    package var ownPrograms: [ServiceProgram] = []
    /// nil: the source is a directory on this node, which needs no second copy.
    package var snapshots: Snapshots?
    /// Whoever observes asks again within this time.
    package var observerPatience = Duration.seconds(10)

    package init(nodeName: String) { self.nodeName = nodeName }
}
