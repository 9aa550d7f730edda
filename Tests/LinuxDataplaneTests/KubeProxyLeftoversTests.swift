/// Rules as kube-proxy makes them, in a namespace: found, removed, and nothing else with them (spec row 173).
import Addressing
import LinuxDataplane
import Netns
import TestSupport
import Testing

@Suite(.requiresKernel(.netns, .nftables)) struct KubeProxyLeftoversTests {
    /// A small piece of what kube-proxy 1.3x makes in iptables mode, beside rules of kubelet and of somebody else.
    private static let iptables = """
        *nat
        :KUBE-SERVICES - [0:0]
        :KUBE-NODEPORTS - [0:0]
        :KUBE-POSTROUTING - [0:0]
        :KUBE-MARK-MASQ - [0:0]
        :KUBE-KUBELET-CANARY - [0:0]
        :KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]
        :KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
        :MINE - [0:0]
        -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
        -A PREROUTING -j MINE
        -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
        -A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
        -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU
        -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        -A KUBE-SVC-TCOU7JCQXEZGVUNU ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ
        -A KUBE-SVC-TCOU7JCQXEZGVUNU -j KUBE-SEP-AAAAAAAAAAAAAAAA
        -A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -j DNAT --to-destination 10.244.0.2:53
        -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
        -A MINE -p tcp --dport 4444 -j RETURN
        COMMIT
        *filter
        :KUBE-FORWARD - [0:0]
        :KUBE-FIREWALL - [0:0]
        :KUBE-EXTERNAL-SERVICES - [0:0]
        -A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
        -A INPUT -j KUBE-FIREWALL
        -A FORWARD -j KUBE-FORWARD
        COMMIT

        """

    @Test func row173_iptablesChainsAreRemovedAndNothingElse() throws {
        try NetworkNamespace.anonymous().run {
            guard try KubeProxyLeftovers.find().isEmpty else { throw TestFailure("found something in nothing") }
            try run(["iptables-nft-restore"], input: Self.iptables)
            let found = try KubeProxyLeftovers.find()
            guard found.warnings.count == 1, found.warnings[0].contains("ip nat") else {
                throw TestFailure("not found: \(found)")
            }
            let (removed, left) = try found.remove()
            guard removed.count == 2, left.isEmpty else { throw TestFailure("\(removed) \(left)") }
            let after = try run(["iptables-nft-save"])
            for ours in ["KUBE-KUBELET-CANARY", "-j MINE", "--dport 4444", "KUBE-FIREWALL"] where !after.contains(ours)
            {
                throw TestFailure("\(ours) went too: \(after)")
            }
            for gone in ["KUBE-S", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-FORWARD", "KUBE-EXTERNAL"]
            where after.contains(gone) {
                throw TestFailure("\(gone) is still there: \(after)")
            }
            guard try KubeProxyLeftovers.find().isEmpty else { throw TestFailure("still found") }
        }
    }

    @Test func row173_aChainThatSomebodyElseUsesStaysAndIsSaid() throws {
        try NetworkNamespace.anonymous().run {
            let text = Self.iptables.replacing(
                "-A MINE -p tcp --dport 4444 -j RETURN", with: "-A MINE -j KUBE-MARK-MASQ")
            try run(["iptables-nft-restore"], input: text)
            let (_, left) = try KubeProxyLeftovers.find().remove()
            guard left.count == 1, left[0].contains("KUBE-MARK-MASQ") else { throw TestFailure("\(left)") }
            guard try run(["iptables-nft-save"]).contains("-A MINE -j KUBE-MARK-MASQ") else {
                throw TestFailure("somebody else's rule is gone")
            }
        }
    }

    @Test func row173_theNftablesTablesOfKubeProxyGo() throws {
        try NetworkNamespace.anonymous().run {
            for family in ["ip", "ip6"] {
                try shell("nft add table \(family) kube-proxy; nft add chain \(family) kube-proxy services")
                try shell("nft add table \(family) mine")
            }
            let (removed, left) = try KubeProxyLeftovers.find().remove()
            guard removed == ["table ip kube-proxy", "table ip6 kube-proxy"], left.isEmpty else {
                throw TestFailure("\(removed) \(left)")
            }
            guard try shell("nft list tables") == "table ip mine\ntable ip6 mine\n" else {
                throw TestFailure("something else went too")
            }
        }
    }
}
