/// EndpointSlices (spec rows 44-50). Most of what a large cluster sends is this kind.
import Addressing

extension ObjectDecoder {
    mutating func endpointSlice(_ reader: inout some Reader)
        throws(DecodeError) -> EndpointSlice
    {
        let line = reader.line
        var type: EndpointSlice.AddressType?
        var ports: [EndpointSlice.Port] = []
        var drafts: [EndpointDraft] = []
        let metadata = try object(&reader, isNamespaced: true, labels: .ours) {
            (decoder, reader, key) throws(DecodeError) in
            switch key {
            case "addressType": type = try reader.choice()
            case "ports": ports = try decoder.slicePorts(&reader)
            case "endpoints":
                try reader.elements { (reader, _) throws(DecodeError) in drafts.append(try decoder.endpoint(&reader)) }
            default: try reader.skip()
            }
        }
        guard let type else {
            throw DecodeError("is missing; use IPv4, IPv6 or FQDN", path: "addressType", line: line)
        }
        let serviceName = metadata.labels["kubernetes.io/service-name"]
        if options.slicesNeedService, serviceName?.isEmpty ?? true {
            note(
                "the slice belongs to no service and is ignored; set this label to the name of its service",
                path: "metadata.labels[\"kubernetes.io/service-name\"]", line: line)
        }
        var slice = EndpointSlice(name: metadata.name, serviceName: serviceName, addressType: type)
        slice.ports = ports
        slice.endpoints = type.family.map { usableEndpoints(drafts, $0) } ?? []
        slice.proxyName = metadata.labels["service.kubernetes.io/service-proxy-name"].map { interner.intern($0) }
        slice.hasHeadlessLabel = metadata.labels["service.kubernetes.io/headless"] != nil
        slice.lastChangeTriggerTime = metadata.lastChangeTriggerTime
        return slice
    }

    /// An endpoint before the slice's family is known: `addressType` may come after it.
    private struct EndpointDraft {
        var endpoint: EndpointSlice.Endpoint
        /// The first address as written, where it is no IP address; empty where there is none.
        var unreadable: String?
        var line: Int
    }

    /// Endpoints with the wrong kind of address are left out; the others still serve (spec rows 47, 49).
    private mutating func usableEndpoints(_ drafts: [EndpointDraft], _ family: AddressFamily)
        -> [EndpointSlice.Endpoint]
    {
        var endpoints: [EndpointSlice.Endpoint] = []
        endpoints.reserveCapacity(drafts.count)
        for (index, draft) in drafts.enumerated() {
            let address = draft.endpoint.address
            let problem: String? =
                if let text = draft.unreadable {
                    text.isEmpty ? "the endpoint has no address" : "\(quoted(text)) is not an IP address"
                } else if address.family != family {
                    "\(address) is not an \(family) address, but the slice's addressType is \(family)"
                } else if !address.isOfOneMachine {
                    "\(address) is not the address of one endpoint (loopback, link-local, multicast or unspecified)"
                } else {
                    nil
                }
            if let problem {
                note(problem + "; the endpoint is left out", path: "endpoints[\(index)].addresses[0]", line: draft.line)
            } else {
                endpoints.append(draft.endpoint)
            }
        }
        return endpoints
    }

    private mutating func slicePorts(_ reader: inout some Reader)
        throws(DecodeError) -> [EndpointSlice.Port]
    {
        var ports: [EndpointSlice.Port] = []
        try reader.elements { (reader, _) throws(DecodeError) in
            let line = reader.line
            var name: String? = options.absentPortNameIsEmpty ? "" : nil
            var number: UInt16?
            var transport = TransportProtocol.tcp
            try reader.fields { (reader, key) throws(DecodeError) in
                switch key {
                case "name": name = interner.intern(try reader.string())
                case "protocol": transport = try reader.transport()
                case "port": number = try reader.optionalPort()
                default: try reader.skip()
                }
            }
            // A port without name or number joins nothing (spec row 48).
            guard let name, let number else { return }
            guard !ports.contains(where: { $0.name == name && $0.transport == transport }) else {
                throw DecodeError("\(quoted(name)) is there twice; rename one", path: "name", line: line)
            }
            ports.append(EndpointSlice.Port(name: name, transport: transport, port: number))
        }
        return ports
    }

    private mutating func endpoint(_ reader: inout some Reader)
        throws(DecodeError) -> EndpointDraft
    {
        var draft = EndpointDraft(
            endpoint: EndpointSlice.Endpoint(IPAddress(v4: 0)), unreadable: "", line: reader.line)
        var isPod = false
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "addresses": try firstAddress(&reader, &draft)
            case "conditions": draft.endpoint.conditions = try conditions(&reader)
            case "nodeName": draft.endpoint.nodeName = interner.intern(try reader.string())
            case "zone": draft.endpoint.zone = interner.intern(try reader.string())
            case "hints": try hints(&reader, &draft.endpoint)
            case "targetRef": isPod = try namesPod(&reader)
            default: try reader.skip()
            }
        }
        if isPod { draft.endpoint.conditions.insert(.ofPod) }
        return draft
    }

    private func firstAddress(
        _ reader: inout some Reader, _ draft: inout EndpointDraft
    ) throws(DecodeError) {
        try reader.elements { (reader, index) throws(DecodeError) in
            guard index == 0 else { return try reader.skip() }
            draft.line = reader.line
            let text = try reader.string()
            if let address = IPAddress(text.trimmed) {
                draft.endpoint.address = address
                draft.unreadable = nil
            } else {
                draft.unreadable = text
            }
        }
    }

    private func conditions(_ reader: inout some Reader) throws(DecodeError)
        -> EndpointSlice.Conditions
    {
        var ready: Bool?
        var serving: Bool?
        var terminating: Bool?
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "ready": ready = try reader.bool()
            case "serving": serving = try reader.bool()
            case "terminating": terminating = try reader.bool()
            default: try reader.skip()
            }
        }
        return EndpointSlice.Conditions(ready: ready, serving: serving, terminating: terminating)
    }

    private func namesPod(_ reader: inout some Reader) throws(DecodeError) -> Bool {
        var isPod = false
        try reader.fields { (reader, key) throws(DecodeError) in
            guard case "kind" = key else { return try reader.skip() }
            isPod = try reader.string() == "Pod"
        }
        return isPod
    }

    private mutating func hints(
        _ reader: inout some Reader, _ endpoint: inout EndpointSlice.Endpoint
    ) throws(DecodeError) {
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "forZones": endpoint.forZones = try hintNames(&reader)
            case "forNodes": endpoint.forNodes = try hintNames(&reader)
            default: try reader.skip()
            }
        }
    }
    private mutating func hintNames(_ reader: inout some Reader)
        throws(DecodeError) -> [String]?
    {
        var names: [String] = []
        try reader.elements { (reader, _) throws(DecodeError) in
            try reader.fields { (reader, key) throws(DecodeError) in
                guard case "name" = key else { return try reader.skip() }
                names.append(interner.intern(try reader.string()))
            }
        }
        return names.isEmpty ? nil : names
    }
}
