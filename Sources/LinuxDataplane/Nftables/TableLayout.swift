/// What our table looks like: its sets and maps, and the chains that are always there. The number of rules is constant;
/// services are elements. Names and priorities of the base chains are a contract with CNI plugins (spec row 172).
import Addressing
import Nftables

enum TableLayout {
    static let name = "heddle"
    /// Written into the table's comment. Change it when a new agent could not go on with an old table.
    static let schema = 1

    static func comment(node: String) -> String { "heddle schema=\(schema) node=\(node)" }

    /// The schema and node in a table's comment; nil: not a table of ours.
    static func parse(comment: String) -> (schema: Int, node: String)? {
        let words = comment.split(separator: " ", maxSplits: 2)
        guard words.count == 3, words[0] == "heddle", words[1].hasPrefix("schema="), words[2].hasPrefix("node="),
            let schema = Int(words[1].dropFirst(7))
        else { return nil }
        return (schema, String(words[2].dropFirst(5)))
    }
}

enum TableSet: UInt8, CaseIterable, Sendable {
    case clusterIPs, serviceIPs, serviceNodePorts, endpoints, nodePortEndpoints, nodePortIPs, noEndpointServices
    case noEndpointNodePorts, firewallIPs, sourceRanges, hairpin, serviceCIDRs, meshClients, meshAddresses, generation

    var name: String {
        switch self {
        case .clusterIPs: "cluster-ips"
        case .serviceIPs: "service-ips"
        case .serviceNodePorts: "service-nodeports"
        case .endpoints: "endpoints"
        case .nodePortEndpoints: "nodeport-endpoints"
        case .nodePortIPs: "nodeport-ips"
        case .noEndpointServices: "no-endpoint-services"
        case .noEndpointNodePorts: "no-endpoint-nodeports"
        case .firewallIPs: "firewall-ips"
        case .sourceRanges: "source-ranges"
        case .hairpin: "hairpin"
        case .serviceCIDRs: "service-cidrs"
        case .meshClients: "mesh-clients"
        case .meshAddresses: "mesh-addresses"
        case .generation: "generation"
        }
    }

    /// Packets that looked up an old verdict may still need these elements: they go in a later transaction.
    var isRemovedLate: Bool {
        switch self {
        case .endpoints, .nodePortEndpoints, .noEndpointServices, .noEndpointNodePorts: true
        default: false
        }
    }

    func definition(_ family: AddressFamily) -> SetDefinition {
        let address = ElementType.address(family)
        let service: [ElementType] = [address, .transport, .port]
        let endpoint = SetDefinition.Value.data([address, .port])
        return switch self {
        case .clusterIPs, .nodePortIPs, .meshClients, .meshAddresses: SetDefinition(name, key: [address])
        case .serviceIPs, .noEndpointServices: SetDefinition(name, key: service, value: .verdict)
        case .serviceNodePorts, .noEndpointNodePorts: SetDefinition(name, key: [.transport, .port], value: .verdict)
        case .endpoints:
            SetDefinition(
                name, key: service + [.integer], value: endpoint,
                userdata: slotMapUserdata(family, key: [.address, .transport, .port, .slot]))
        case .nodePortEndpoints:
            SetDefinition(
                name, key: [.transport, .port, .integer], value: endpoint,
                userdata: slotMapUserdata(family, key: [.transport, .port, .slot]))
        case .firewallIPs: SetDefinition(name, key: service)
        case .sourceRanges: SetDefinition(name, key: service + [address], isInterval: true)
        case .hairpin: SetDefinition(name, key: [address, address])
        case .serviceCIDRs: SetDefinition(name, key: [address], isInterval: true)
        case .generation: SetDefinition(name, key: [.mark], userdata: hostOrderKey)
        }
    }
}

/// Sticky clients of one endpoint: filled by rules, 256 Ki clients at most.
func affinitySet(_ name: String, _ family: AddressFamily) -> SetDefinition {
    SetDefinition(name, key: [.address(family)], dynamicSize: 1 << 18)
}

// MARK: How nft prints keys

private let hostOrderKey: Userdata = {
    let (keyByteOrder, hostEndian): (UInt8, UInt32) = (0, 1)
    var result = Userdata()
    result.append(keyByteOrder, hostEndian)
    return result
}()

private enum TypeofField { case address, transport, port, slot }

/// `typeof ip daddr . meta l4proto . th dport . numgen random mod 2`: without it `nft` could not read its own listing
/// back, because no named type fits a number made by numgen. The numbers are nft's own, from its expression parsers.
private func slotMapUserdata(_ family: AddressFamily, key: [TypeofField]) -> Userdata {
    let (keyByteOrder, dataByteOrder, keyTypeof, dataTypeof): (UInt8, UInt8, UInt8, UInt8) = (0, 1, 3, 4)
    var result = Userdata()
    result.append(keyByteOrder, 0)
    result.append(dataByteOrder, 0)
    result.append(keyTypeof, concatenation(family, key))
    result.append(dataTypeof, concatenation(family, [.address, .port]))
    return result
}

private func concatenation(_ family: AddressFamily, _ fields: [TypeofField]) -> Userdata {
    var parts = Userdata()
    for (index, field) in fields.enumerated() { parts.append(UInt8(index), expression(family, field)) }
    return typed(13, parts)
}

private func expression(_ family: AddressFamily, _ field: TypeofField) -> Userdata {
    switch field {
    case .address: family == .ipv4 ? typed(7, numbers(12, 12)) : typed(7, numbers(13, 9))
    case .port: typed(7, numbers(11, 2))
    case .transport: typed(9, numbers(16))
    case .slot: typed(23, numbers(1, 2, 0))
    }
}

private func typed(_ kind: UInt32, _ data: Userdata) -> Userdata {
    var result = Userdata()
    result.append(0, kind)
    result.append(1, data)
    return result
}
private func numbers(_ values: UInt32...) -> Userdata {
    var result = Userdata()
    for (index, value) in values.enumerated() { result.append(UInt8(index), value) }
    return result
}
