/// Services (spec rows 6-12, 20, 24, 25, 36-43).
import Addressing

extension ObjectDecoder {
    mutating func service(_ reader: inout some Reader) throws(DecodeError)
        -> Service
    {
        var service = Service(name: ObjectName("", ""))
        let metadata = try object(&reader, isNamespaced: true, labels: .ours) {
            (decoder, reader, key) throws(DecodeError) in
            switch key {
            case "spec": try decoder.spec(&reader, &service)
            case "status": try decoder.status(&reader, &service)
            default: try reader.skip()
            }
        }
        service.name = metadata.name
        service.creationTime = metadata.creationTime
        service.annotations = metadata.annotations
        service.proxyName = metadata.labels["service.kubernetes.io/service-proxy-name"].map { interner.intern($0) }
        service.hasHeadlessLabel = metadata.labels["service.kubernetes.io/headless"] != nil
        return service
    }

    private mutating func spec(
        _ reader: inout some Reader, _ service: inout Service
    ) throws(DecodeError) {
        var clusterIP: [IPAddress] = []
        var clusterIPs: [IPAddress]?
        var isHeadless = false
        var affinity: SessionAffinity?
        var affinitySeconds: UInt32 = 10800
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "type": service.type = try reader.choice() ?? .clusterIP
            case "clusterIP": clusterIP = try self.clusterIP(&reader, &isHeadless).map { [$0] } ?? []
            case "clusterIPs": clusterIPs = try self.clusterIPs(&reader, &isHeadless)
            case "ports": service.ports = try servicePorts(&reader)
            case "selector":
                let selector = try reader.stringMap()
                service.selector = Dictionary(uniqueKeysWithValues: selector.map { (interner.intern($0), $1) })
            case "externalIPs":
                try reader.elements { (reader, _) throws(DecodeError) in
                    service.externalIPs.append(try unicastAddress(&reader))
                }
            case "loadBalancerSourceRanges":
                try reader.elements { (reader, _) throws(DecodeError) in
                    service.sourceRanges.append(try reader.prefix())
                }
            case "sessionAffinity": affinity = try reader.choice()
            case "sessionAffinityConfig":
                if let seconds = try affinityTimeout(&reader) { affinitySeconds = seconds }
            case "internalTrafficPolicy": service.internalTrafficPolicy = try reader.choice() ?? .cluster
            case "externalTrafficPolicy": service.externalTrafficPolicy = try reader.choice() ?? .cluster
            case "healthCheckNodePort": service.healthCheckNodePort = try reader.optionalPort()
            case "publishNotReadyAddresses": service.publishNotReadyAddresses = try reader.bool()
            default: try reader.skip()
            }
        }
        // Old objects have the singular field only.
        service.clusterIPs = clusterIPs ?? clusterIP
        if service.clusterIPs.isEmpty, !isHeadless, service.type != .externalName {
            service.clusterIPs = options.unallocatedClusterIPs
        }
        service.affinitySeconds = affinity == .clientIP ? affinitySeconds : nil
    }

    private enum SessionAffinity: String, CaseIterable {
        case none = "None"
        case clientIP = "ClientIP"
    }

    /// nil for "None" (headless) and for an address not allocated yet.
    private func clusterIP(
        _ reader: inout some Reader, _ isHeadless: inout Bool
    ) throws(DecodeError) -> IPAddress? {
        let line = reader.line
        let text = try reader.string()
        if text == "None" { isHeadless = true }
        if text.isEmpty || text == "None" { return nil }
        guard let address = IPAddress(text.trimmed) else {
            throw DecodeError(
                "\(quoted(text)) is not an IP address; write it like 10.96.0.10, or None for a headless service",
                line: line)
        }
        return try checkUnicast(address, line: line)
    }

    private func clusterIPs(
        _ reader: inout some Reader, _ isHeadless: inout Bool
    ) throws(DecodeError) -> [IPAddress]? {
        var addresses: [IPAddress] = []
        var isEmpty = true
        try reader.elements { (reader, _) throws(DecodeError) in
            isEmpty = false
            let line = reader.line
            guard let address = try clusterIP(&reader, &isHeadless) else { return }
            guard !addresses.contains(where: { $0.family == address.family }) else {
                throw DecodeError(
                    "\(address) is a second \(address.family) address; give one of each family", line: line)
            }
            addresses.append(address)
        }
        return isEmpty ? nil : addresses
    }

    private func servicePorts(_ reader: inout some Reader) throws(DecodeError)
        -> [Service.Port]
    {
        var ports: [Service.Port] = []
        try reader.elements { (reader, _) throws(DecodeError) in
            let line = reader.line
            let port = try servicePort(&reader)
            for other in ports {
                if let conflict = port.conflict(with: other) {
                    throw DecodeError(conflict.message, path: conflict.field, line: line)
                }
            }
            ports.append(port)
        }
        return ports
    }

    private func servicePort(_ reader: inout some Reader) throws(DecodeError)
        -> Service.Port
    {
        let line = reader.line
        var number: UInt16?
        var targetPort: Service.TargetPort?
        var result = Service.Port(port: 1)
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "name": result.name = try reader.string()
            case "protocol": result.transport = try reader.transport()
            case "port": number = try reader.port()
            case "nodePort": result.nodePort = try reader.optionalPort()
            case "appProtocol": result.appProtocol = try reader.string()
            case "targetPort": targetPort = try self.targetPort(&reader)
            default: try reader.skip()
            }
        }
        guard let number else {
            throw DecodeError("is missing; every port needs a number from 1 to 65535", path: "port", line: line)
        }
        result.port = number
        result.targetPort = targetPort ?? .number(number)
        return result
    }

    /// nil for 0 and the empty name: the same as the port itself.
    private func targetPort(_ reader: inout some Reader) throws(DecodeError)
        -> Service.TargetPort?
    {
        if reader.kind == .number { return try reader.optionalPort().map { .number($0) } }
        let line = reader.line
        let name = try reader.string()
        if name.isEmpty { return nil }
        guard name.contains(where: \.isLetter) else {
            throw DecodeError(
                "\(quoted(name)) has no letter; write a number without quotes, or a port's name", line: line)
        }
        return .name(name)
    }

    private func affinityTimeout(_ reader: inout some Reader)
        throws(DecodeError) -> UInt32?
    {
        var result: UInt32?
        try reader.fields { (reader, key) throws(DecodeError) in
            guard case "clientIP" = key else { return try reader.skip() }
            try reader.fields { (reader, key) throws(DecodeError) in
                guard case "timeoutSeconds" = key else { return try reader.skip() }
                let line = reader.line
                let value = try reader.int()
                guard (1...86400).contains(value) else {
                    throw DecodeError("\(value) is not allowed; use 1 to 86400 seconds", line: line)
                }
                result = UInt32(value)
            }
        }
        return result
    }

    private mutating func status(
        _ reader: inout some Reader, _ service: inout Service
    ) throws(DecodeError) {
        try reader.fields { (reader, key) throws(DecodeError) in
            guard case "loadBalancer" = key else { return try reader.skip() }
            try reader.fields { (reader, key) throws(DecodeError) in
                guard case "ingress" = key else { return try reader.skip() }
                try reader.elements { (reader, _) throws(DecodeError) in
                    if let ingress = try ingress(&reader) { service.ingress.append(ingress) }
                }
            }
        }
    }

    private enum IngressMode: String, CaseIterable {
        case vip = "VIP"
        case proxy = "Proxy"
    }

    /// nil for an entry with only a host name (spec row 11).
    private func ingress(_ reader: inout some Reader) throws(DecodeError)
        -> Service.Ingress?
    {
        var address: IPAddress?
        var mode: IngressMode?
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            // Whether it can be served is the compiler's question: a bad entry must not take the others along.
            case "ip": address = try reader.address()
            case "ipMode": mode = try reader.choice()
            default: try reader.skip()
            }
        }
        return address.map { Service.Ingress($0, isProxyMode: mode == .proxy) }
    }

    private func unicastAddress(_ reader: inout some Reader)
        throws(DecodeError) -> IPAddress
    {
        let line = reader.line
        return try checkUnicast(reader.address(), line: line)
    }
    /// Taking over 127.0.0.1 or 0.0.0.0 would break every program of the node that talks to itself.
    private func checkUnicast(_ address: IPAddress, line: Int) throws(DecodeError) -> IPAddress {
        guard !address.isUnspecified, !address.isLoopback, !address.isMulticast else {
            throw DecodeError("\(address) cannot be a service's address; use a unicast address", line: line)
        }
        return address
    }
}

extension Service.Port {
    /// What two ports of one service cannot share. The API wants different names also for different protocols, but the
    /// key of a port has both (spec row 1).
    fileprivate func conflict(with other: Service.Port) -> (field: String, message: String)? {
        guard transport == other.transport else { return nil }
        if name == other.name {
            let message =
                name.isEmpty
                ? "is missing; a service with several ports must name each"
                : "\(quoted(name)) is there twice; rename one"
            return ("name", message)
        }
        if port == other.port { return ("port", "\(port)/\(transport) is there twice; remove one") }
        if let nodePort, nodePort == other.nodePort {
            return ("nodePort", "\(nodePort)/\(transport) is there twice; change one")
        }
        return nil
    }
}
