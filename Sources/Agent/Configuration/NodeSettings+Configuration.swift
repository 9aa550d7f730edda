/// What the controller must know of the options.
import NodeControl
import RouteIR

extension AgentConfiguration {
    var nodeSettings: NodeSettings {
        var settings = NodeSettings(nodeName: nodeName)
        if case .kubernetes = source { settings.sourceKnowsNodes = true }
        settings.serviceProxyName = serviceProxyName
        settings.servesExternalIPs = servesExternalIPs
        settings.minSyncPeriod = minSyncPeriod
        settings.proxy = proxy
        settings.proxyPort = proxyPort
        settings.l7Failure = l7Failure
        settings.ownPorts = ownPorts
        if authority != .off { settings.mesh = ProxyMesh(trustDomain: trustDomain, aliases: trustDomainAliases) }
        settings.nodePortAddresses = nodePortAddresses
        settings.nodePortLoopback = nodePortLoopback
        settings.clusterCIDRs = clusterCIDRs
        settings.masqueradeAll = masqueradeAll
        settings.masqueradeBit = masqueradeBit
        settings.detectLocal = detectLocal
        return settings
    }
}
