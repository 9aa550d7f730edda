/// Node facts in the maps: addresses that serve node ports, service CIDRs, and the configuration the programs read.
import Addressing
import BPF
import CDataplaneABI
import DataplaneIR
import Glibc

extension BPFDataplane {
    /// Returns how many entries changed.
    func writeNode(_ wanted: NodeProgram) throws(BPFError) -> Int {
        var operations = 0
        // Loopback never is among them, whoever asks for it (spec row 92).
        let addresses = wanted.nodePortAddresses.filter { !$0.isLoopback }
        guard addresses.count <= maps.nodeAddresses.maxEntries else {
            throw BPFError(
                "update map node_addresses", E2BIG,
                detail: "the node has \(addresses.count) addresses for node ports; make the map larger")
        }
        for address in mirror.nodeAddresses.subtracting(addresses).sorted() {
            try faults.check("delete from map node_addresses")
            try maps.nodeAddresses.delete(heddle_address(address))
            mirror.nodeAddresses.remove(address)
            operations += 1
        }
        for address in Set(addresses).subtracting(mirror.nodeAddresses).sorted() {
            try faults.check("update map node_addresses")
            try maps.nodeAddresses.update(heddle_address(address), 1)
            mirror.nodeAddresses.insert(address)
            operations += 1
        }
        operations += writeConfiguration(wanted)
        if operations > 0 { mustCutSockets = true }
        if wanted.mesh.enrolled.isEmpty { operations += switchMesh(wanted) }
        // What is listed is there before the range that it was part of goes.
        operations += try writeMeshAddresses(wanted.mesh.enrolled)
        let written = try writeRanges(ranges(wanted))
        if written > 0 { mustCutSockets = true }
        node = wanted
        return operations + written
    }

    /// Of the map service_cidrs. Where services are nobody's pods are.
    func ranges(_ node: NodeProgram) -> [IPPrefix: UInt32] {
        var ranges: [IPPrefix: UInt32] = [:]
        for range in node.mesh.unlisted
        where !node.serviceCIDRs.contains(where: { $0.length <= range.length && $0.contains(range.address) }) {
            ranges[range] = UInt32(HEDDLE_PREFIX_UNLISTED)
        }
        for range in node.serviceCIDRs { ranges[range] = UInt32(HEDDLE_PREFIX_SERVICES) }
        return ranges
    }

    private func writeRanges(_ wanted: [IPPrefix: UInt32]) throws(BPFError) -> Int {
        var operations = 0
        for range in mirror.ranges.keys.sorted() where wanted[range] == nil {
            try faults.check("delete from map service_cidrs")
            try maps.serviceCIDRs.delete(heddle_prefix(range))
            mirror.ranges[range] = nil
            operations += 1
        }
        for (range, kind) in wanted.sorted(by: { $0.key < $1.key }) where mirror.ranges[range] != kind {
            try faults.check("update map service_cidrs")
            try maps.serviceCIDRs.update(heddle_prefix(range), kind)
            mirror.ranges[range] = kind
            operations += 1
        }
        return operations
    }

    /// Whether connections to pods' addresses are looked at. On only when all is in place that takes them.
    func switchMesh(_ wanted: NodeProgram) -> Int {
        let value = meshBits(wanted)
        guard maps.config.pointee.has_mesh != value else { return 0 }
        maps.config.pointee.has_mesh = value
        return 1
    }

    /// `heddle_config.has_mesh`.
    func meshBits(_ node: NodeProgram) -> UInt32 {
        (node.mesh.enrolled.isEmpty ? 0 : 1) | (node.mesh.unlisted.isEmpty ? 0 : 2)
    }

    /// Pods come and go by the thousands: only what differs is written, a batch to a call.
    private func writeMeshAddresses(_ wanted: Set<IPAddress>) throws(BPFError) -> Int {
        guard wanted != mirror.meshAddresses else { return 0 }
        guard wanted.count <= maps.meshAddresses.maxEntries else {
            throw BPFError(
                "update map mesh_addresses", E2BIG,
                detail: "the mesh has \(wanted.count) addresses of pods; make the map larger")
        }
        var (deleted, written) = (0, 0)
        let gone = mirror.meshAddresses.subtracting(wanted).map { heddle_address($0) }
        if !gone.isEmpty {
            try faults.check("delete from map mesh_addresses")
            try maps.meshAddresses.delete(batch: gone, deleted: &deleted)
        }
        let new = wanted.subtracting(mirror.meshAddresses).map { heddle_address($0) }
        if !new.isEmpty {
            try faults.check("update map mesh_addresses")
            try maps.meshAddresses.update(batch: new, new.map { _ in 1 }, written: &written)
        }
        mirror.meshAddresses = wanted
        return deleted + written
    }

    /// `heddle_config.has_detector`.
    func detectorBits(_ node: NodeProgram) -> UInt32 {
        (node.detector.tellsApart(.ipv4) ? 1 : 0) | (node.detector.tellsApart(.ipv6) ? 2 : 0)
    }

    var rulesServeUDP: UInt16 { options.companionServesUDP ? 1 : 0 }

    private func writeConfiguration(_ wanted: NodeProgram) -> Int {
        let config = maps.config
        var operations = 0
        func set(_ field: WritableKeyPath<heddle_config, UInt32>, _ value: UInt32) {
            guard config.pointee[keyPath: field] != value else { return }
            config.pointee[keyPath: field] = value
            operations += 1
        }
        set(\.has_service_cidrs, wanted.serviceCIDRs.isEmpty ? 0 : 1)
        set(\.has_detector, detectorBits(wanted))
        if config.pointee.node_cookie != nodeCookie {
            config.pointee.node_cookie = nodeCookie
            operations += 1
        }
        set(\.node_port_loopback, wanted.nodePortLoopback ? 1 : 0)
        if config.pointee.rules_serve_udp != rulesServeUDP {
            config.pointee.rules_serve_udp = rulesServeUDP
            operations += 1
        }
        let proxy = ProxyFields(wanted)
        if ProxyFields(config.pointee) != proxy {
            proxy.write(to: config)
            operations += 1
        }
        return operations
    }

    /// What of heddle_config says where the proxy is.
    struct ProxyFields: Equatable {
        private var port: UInt16 = 0
        private var addresses: [IPAddress?] = [nil, nil]

        init(_ node: NodeProgram) {
            for (index, family) in [AddressFamily.ipv4, .ipv6].enumerated() {
                guard let listener = node.proxyListener(family) else { continue }
                port = listener.port
                addresses[index] = listener.address
            }
        }
        init(_ config: heddle_config) {
            port = UInt16(bigEndian: config.proxy_port)
            addresses = [config.proxy_address.0, config.proxy_address.1].map { $0.low == 0 ? nil : $0.value }
        }
        func write(to config: UnsafeMutablePointer<heddle_config>) {
            let raw = addresses.map { $0.map { heddle_address($0) } ?? heddle_address(high: 0, low: 0) }
            config.pointee.proxy_address = (raw[0], raw[1])
            config.pointee.proxy_port = port.bigEndian
        }
    }

    // MARK: Bounds that spare lookups

    /// Before new frontends are written: no bound may exclude one that is served.
    func widenBounds(_ programs: [ServiceProgram], _ clusterIPs: Set<IPAddress>) {
        var bounds = FrontendBounds(maps.config.pointee)
        for program in programs {
            for frontend in program.frontends where frontend.kind == .nodePort { bounds.include(port: frontend.port) }
        }
        for address in clusterIPs { bounds.include(clusterIP: address) }
        bounds.write(to: maps.config)
    }

    /// After a full plan: as narrow as what is served.
    func narrowBounds() {
        var bounds = FrontendBounds()
        for key in mirror.owners.keys {
            switch key.scope {
            case .node: bounds.include(port: key.port)
            case .live: bounds.include(clusterIP: key.address)
            case .address: break
            }
        }
        bounds.write(to: maps.config)
    }
}

/// The bounds of heddle_config.
struct FrontendBounds: Equatable {
    private var firstIP: [UInt64] = [.max, .max]
    private var lastIP: [UInt64] = [0, 0]
    private var firstPort = UInt32.max
    private var lastPort: UInt32 = 0

    init() {}
    init(_ config: heddle_config) {
        firstIP = [config.cluster_ip_first.0, config.cluster_ip_first.1]
        lastIP = [config.cluster_ip_last.0, config.cluster_ip_last.1]
        firstPort = config.node_port_first
        lastPort = config.node_port_last
    }
    mutating func include(port: UInt16) {
        firstPort = min(firstPort, UInt32(port))
        lastPort = max(lastPort, UInt32(port))
    }
    mutating func include(clusterIP: IPAddress) {
        let family = clusterIP.isIPv4 ? 0 : 1
        firstIP[family] = min(firstIP[family], clusterIP.low)
        lastIP[family] = max(lastIP[family], clusterIP.low)
    }
    func include(_ key: FrontendKey) -> Bool {
        switch key.scope {
        case .address: return true
        case .node: return firstPort <= UInt32(key.port) && UInt32(key.port) <= lastPort
        case .live:
            let family = key.address.isIPv4 ? 0 : 1
            return firstIP[family] <= key.address.low && key.address.low <= lastIP[family]
        }
    }
    func write(to config: UnsafeMutablePointer<heddle_config>) {
        config.pointee.cluster_ip_first = (firstIP[0], firstIP[1])
        config.pointee.cluster_ip_last = (lastIP[0], lastIP[1])
        config.pointee.node_port_first = firstPort
        config.pointee.node_port_last = lastPort
    }
}

extension heddle_prefix {
    init(_ prefix: IPPrefix) {
        let (high, low) = (prefix.address.high, prefix.address.low)
        let words = [high >> 32, high, low >> 32, low].map { UInt32(truncatingIfNeeded: $0).bigEndian }
        self.init(length: UInt32(prefix.mappedLength), word: (words[0], words[1], words[2], words[3]))
    }
    var value: IPPrefix? {
        let words = [word.0, word.1, word.2, word.3].map { UInt64(UInt32(bigEndian: $0)) }
        let address = IPAddress(high: words[0] << 32 | words[1], low: words[2] << 32 | words[3])
        return IPPrefix(address, length: Int(length) - (address.isIPv4 ? 96 : 0))
    }
}
