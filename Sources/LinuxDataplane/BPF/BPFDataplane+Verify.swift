/// Comparing the kernel with what we wrote. Links, pins and the configuration are looked at each time; the entries of
/// the maps in pieces, each by what the mirror says at that moment, so that plans may come in between. Arrays are read
/// in our own memory, hash maps as the kernel lists them, a batch to a call: an entry costs some tens of nanoseconds.
import Addressing
import BPF
import CDataplaneABI
package import DataplaneIR
import Glibc
package import Reconcile

/// How far a comparison has come.
struct BPFComparison {
    fileprivate var services: ArraySlice<ServicePortID>
    fileprivate var mustCountWords = true
    fileprivate var frontends = BPFMapCursor()
    fileprivate var names = BPFMapCursor()

    init(_ mirror: inout BPFMirror) {
        services = Array(mirror.services.keys)[...]
        mirror.beginComparison()
    }
}

extension BPFDataplane {
    package func verify(quick: Bool) throws(DataplaneError) -> [Drift] {
        var drift: [Drift] = []
        if isMirrorDoubtful {
            drift.append(Drift(object: "maps", detail: "the last update failed; a full plan puts them right"))
        }
        drift += attachment.drift(CgroupHook.needed(by: node))
        drift += pinDrift()
        drift += configurationDrift()
        if !quick { drift += try compare(entries: .max, restarts: true).drift }
        return drift
    }

    package func compare(entries: Int, restarts: Bool) throws(DataplaneError) -> ComparedPiece {
        var comparison = restarts ? nil : self.comparison
        // After a failure from the beginning.
        self.comparison = nil
        do throws(BPFError) {
            var piece = ComparedPiece()
            var work = comparison.take() ?? BPFComparison(&mirror)
            while !piece.isLast, piece.entries < entries { try step(&work, entries - piece.entries, &piece) }
            if !piece.isLast { self.comparison = work }
            return piece
        } catch {
            throw DataplaneError(error)
        }
    }

    private func step(_ work: inout BPFComparison, _ room: Int, _ piece: inout ComparedPiece) throws(BPFError) {
        if let id = work.services.popFirst() {
            // One that went away since is nobody's business any more.
            if let record = mirror.services[id] { try compare(record, &piece) }
        } else if work.mustCountWords {
            work.mustCountWords = false
            piece.drift += try strayWords()
        } else if !work.frontends.isAtEnd {
            let bounds = isFresh ? nil : FrontendBounds(maps.config.pointee)
            try maps.frontends.read(after: &work.frontends, batch: Self.batch(room)) { keys, values in
                for (key, value) in zip(keys, values) {
                    if let drift = compare(key, value, bounds) { piece.drift.append(drift) }
                }
                piece.entries += keys.count
            }
            if work.frontends.isAtEnd {
                piece.drift += mirror.owners.missing.map {
                    Drift(object: "map frontends", detail: "\($0.text) is missing")
                }
            }
        } else if !work.names.isAtEnd {
            try maps.serviceNames.read(after: &work.names, batch: Self.batch(room)) { ids, names in
                for (serviceID, name) in zip(ids, names) {
                    if let drift = compare(serviceID, name) { piece.drift.append(drift) }
                }
                piece.entries += ids.count
            }
            if work.names.isAtEnd {
                piece.drift += mirror.names.missing.map { nameDrift($0, "is missing") }
            }
        } else {
            piece.drift += try nodeDrift()
            piece.isLast = true
        }
    }

    /// A bucket must fit in.
    private static func batch(_ room: Int) -> Int { min(max(room, 64), 4096) }

    private func pinDrift() -> [Drift] {
        let directory = isStaged ? pins.staging : pins.maps
        return maps.descriptors.keys.sorted().compactMap { name in
            let path = "\(directory)/\(name)"
            let isOurs = knownPins.isRight(path) {
                let pinned = try? BPFDescriptor.pinned(at: path)
                return (try? pinned?.mapID()) == (try? maps.descriptors[name]?.mapID())
            }
            return isOurs ? nil : Drift(object: "map \(name)", detail: "is not pinned at \(directory)/\(name)")
        }
    }

    private func configurationDrift() -> [Drift] {
        let config = maps.config.pointee
        let isRight =
            config.has_service_cidrs == (node.serviceCIDRs.isEmpty ? 0 : 1)
            && config.has_detector == detectorBits(node)
            && config.node_port_loopback == (node.nodePortLoopback ? 1 : 0) && config.node_cookie == nodeCookie
            && config.rules_serve_udp == rulesServeUDP && ProxyFields(config) == ProxyFields(node)
            && config.has_mesh == meshBits(node)
        return isRight || isFresh ? [] : [Drift(object: "map config", detail: "was changed")]
    }

    private func compare(_ record: ServiceRecord, _ piece: inout ComparedPiece) throws(BPFError) {
        // Endpoints are read from memory: some of them cost what one entry of a hash map does.
        piece.entries += 1 + record.entryCount / 8
        let id = record.program.id
        guard try maps.published(record.slot) == record.published else {
            piece.drift.append(Drift(object: "map services", detail: "the entry of \(id) was changed"))
            return
        }
        let base = Int(record.published.base)
        let memory = try maps.backends.elements(upTo: base + record.entryCount) + base
        if !record.block.equals(memory) {
            piece.drift.append(Drift(object: "map backends", detail: "the endpoints of \(id) were changed"))
        }
    }

    private func strayWords() throws(BPFError) -> [Drift] {
        let words = try maps.services.elements(upTo: maps.services.count)
        var used = 0
        for slot in 0..<maps.services.count where words[slot] != 0 { used += 1 }
        let stray = used - mirror.services.count
        return stray > 0 ? [Drift(object: "map services", detail: "\(stray) entries belong to no service")] : []
    }

    private func compare(_ raw: heddle_frontend_key, _ found: heddle_frontend, _ bounds: FrontendBounds?) -> Drift? {
        guard let key = FrontendKey(raw), let owner = mirror.meetOwner(of: key) else {
            let text = FrontendKey(raw)?.text ?? "an unreadable key"
            return Drift(object: "map frontends", detail: "\(text) belongs to no service")
        }
        guard found.key == raw, found.svc_id == owner.serviceID, found.slot == owner.slot, found.kind == owner.kind
        else { return Drift(object: "map frontends", detail: "\(key.text) was changed") }
        guard let bounds, !bounds.include(key) else { return nil }
        return Drift(object: "map config", detail: "its bounds exclude \(key.text)")
    }

    private func compare(_ serviceID: UInt32, _ name: heddle_service_name) -> Drift? {
        guard let digest = mirror.meetName(of: serviceID) else {
            return Drift(object: "map service_names", detail: "entry \(serviceID) belongs to no service")
        }
        if name.digest == digest { return nil }
        // What stands behind the end of a text means nothing.
        if let record = mirror.record(of: serviceID), name.id == record.program.id, name.slot == record.slot {
            return nil
        }
        return nameDrift(serviceID, "was changed")
    }

    private func nameDrift(_ serviceID: UInt32, _ what: String) -> Drift {
        let name = mirror.record(of: serviceID).map(\.program.id.description) ?? "service \(serviceID)"
        return Drift(object: "map service_names", detail: "the name of \(name) \(what)")
    }

    private func nodeDrift() throws(BPFError) -> [Drift] {
        var drift: [Drift] = []
        if Set(try maps.nodeAddresses.entries().map(\.key.value)) != mirror.nodeAddresses {
            drift.append(Drift(object: "map node_addresses", detail: "was changed"))
        }
        if try maps.ranges() != mirror.ranges {
            drift.append(Drift(object: "map service_cidrs", detail: "was changed"))
        }
        if Set(try maps.meshAddresses.keys().map(\.value)) != mirror.meshAddresses {
            drift.append(Drift(object: "map mesh_addresses", detail: "was changed"))
        }
        return drift
    }
}
