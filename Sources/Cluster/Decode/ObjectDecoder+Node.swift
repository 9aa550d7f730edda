/// The kinds that belong to the whole cluster: Node, Namespace, ServiceCIDR.
import Addressing

extension ObjectDecoder {
    mutating func node(_ reader: inout some Reader) throws(DecodeError) -> Node {
        var node = Node(name: "")
        var podCIDR: IPPrefix?
        let metadata = try object(&reader, isNamespaced: false, labels: .all) {
            (decoder, reader, key) throws(DecodeError) in
            switch key {
            case "spec":
                try reader.fields { (reader, key) throws(DecodeError) in
                    switch key {
                    case "podCIDR": podCIDR = try decoder.optionalPrefix(&reader)
                    case "podCIDRs":
                        try reader.elements { (reader, _) throws(DecodeError) in
                            node.podCIDRs.append(try reader.prefix())
                        }
                    case "taints":
                        try reader.elements { (reader, _) throws(DecodeError) in
                            if try decoder.isDeletionTaint(&reader) { node.isToBeDeleted = true }
                        }
                    default: try reader.skip()
                    }
                }
            case "status": try decoder.nodeStatus(&reader, &node)
            default: try reader.skip()
            }
        }
        node.name = metadata.name.name
        node.labels = metadata.labels
        node.hasDeletionTimestamp = metadata.hasDeletionTimestamp
        if node.podCIDRs.isEmpty, let podCIDR { node.podCIDRs = [podCIDR] }
        return node
    }

    private func optionalPrefix(_ reader: inout some Reader)
        throws(DecodeError) -> IPPrefix?
    {
        let line = reader.line
        let text = try reader.string()
        if text.isEmpty { return nil }
        guard let prefix = IPPrefix(text) else {
            throw DecodeError("\(quoted(text)) is not an address range; write it like 10.0.0.0/24", line: line)
        }
        return prefix
    }

    private func isDeletionTaint(_ reader: inout some Reader)
        throws(DecodeError) -> Bool
    {
        var result = false
        try reader.fields { (reader, key) throws(DecodeError) in
            guard case "key" = key else { return try reader.skip() }
            result = try reader.string() == "ToBeDeletedByClusterAutoscaler"
        }
        return result
    }

    private mutating func nodeStatus(
        _ reader: inout some Reader, _ node: inout Node
    ) throws(DecodeError) {
        var externalIPs: [IPAddress] = []
        try reader.fields { (reader, key) throws(DecodeError) in
            guard case "addresses" = key else { return try reader.skip() }
            try reader.elements { (reader, index) throws(DecodeError) in
                let line = reader.line
                var type = ""
                var text = ""
                try reader.fields { (reader, key) throws(DecodeError) in
                    switch key {
                    case "type": type = try reader.string()
                    case "address": text = try reader.string()
                    default: try reader.skip()
                    }
                }
                guard type == "InternalIP" || type == "ExternalIP" else { return }
                if let address = IPAddress(text.trimmed) {
                    if type == "InternalIP" { node.nodeIPs.append(address) } else { externalIPs.append(address) }
                } else {
                    note(
                        "\(quoted(text)) is not an IP address and is ignored",
                        path: "status.addresses[\(index)].address",
                        line: line)
                }
            }
        }
        node.nodeIPs += externalIPs
    }

    mutating func namespace(_ reader: inout some Reader) throws(DecodeError)
        -> Namespace
    {
        let metadata = try object(&reader, isNamespaced: false, labels: .all) { (_, reader, _) throws(DecodeError) in
            try reader.skip()
        }
        var namespace = Namespace(name: metadata.name.name)
        namespace.labels = metadata.labels
        namespace.annotations = metadata.annotations
        return namespace
    }

    mutating func serviceCIDR(_ reader: inout some Reader)
        throws(DecodeError) -> ServiceCIDR
    {
        var cidrs: [IPPrefix] = []
        let metadata = try object(&reader, isNamespaced: false, labels: .ours) { (_, reader, key) throws(DecodeError) in
            guard case "spec" = key else { return try reader.skip() }
            try reader.fields { (reader, key) throws(DecodeError) in
                guard case "cidrs" = key else { return try reader.skip() }
                try reader.elements { (reader, _) throws(DecodeError) in cidrs.append(try reader.prefix()) }
            }
        }
        return ServiceCIDR(name: metadata.name.name, cidrs: cidrs)
    }
}
