/// Comparing the kernel with what we wrote. Links, pins and the configuration are looked at each time; the entries of
/// the maps in pieces, each by what the mirror says at that moment, so that plans may come in between.
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
    fileprivate var frontends: ArraySlice<FrontendKey>?
    /// Once more as the kernel lists them: what is there too much.
    fileprivate var listedFrontends = BPFMapCursor()
    fileprivate var listedNames = BPFMapCursor()

    init(_ mirror: BPFMirror) { services = Array(mirror.services.keys)[...] }
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
            var work = comparison.take() ?? BPFComparison(mirror)
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
        } else if let key = work.frontends?.popFirst() {
            try compareFrontend(key, &piece)
        } else if work.frontends == nil {
            work.frontends = Array(mirror.owners.keys)[...]
        } else if !work.listedFrontends.isAtEnd {
            let found = try maps.frontends.entries(after: &work.listedFrontends, batch: Self.batch(room))
            piece.entries += found.count
            piece.drift += found.compactMap { strayFrontend($0.key) }
        } else if !work.listedNames.isAtEnd {
            let found = try maps.serviceNames.entries(after: &work.listedNames, batch: Self.batch(room))
            piece.entries += found.count
            for (serviceID, name) in found where !isKnown(name, serviceID) {
                piece.drift.append(
                    Drift(object: "map service_names", detail: "entry \(serviceID) belongs to no service"))
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
            let pinned = try? BPFDescriptor.pinned(at: "\(directory)/\(name)")
            let isOurs = (try? pinned?.mapID()) == (try? maps.descriptors[name]?.mapID())
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
        return isRight || isFresh ? [] : [Drift(object: "map config", detail: "was changed")]
    }

    private func compare(_ record: ServiceRecord, _ piece: inout ComparedPiece) throws(BPFError) {
        // Endpoints are read from memory: some of them cost what one lookup does.
        piece.entries += 2 + record.entryCount / 8
        let id = record.program.id
        let name = try maps.serviceNames.lookup(record.serviceID)
        if name?.id != id || name?.slot != record.slot {
            let what = name == nil ? "is missing" : "was changed"
            piece.drift.append(Drift(object: "map service_names", detail: "the name of \(id) \(what)"))
        }
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

    private func compareFrontend(_ key: FrontendKey, _ piece: inout ComparedPiece) throws(BPFError) {
        guard let owner = mirror.owners[key] else { return }
        piece.entries += 1
        var needed = FrontendBounds()
        switch key.scope {
        case .node: needed.include(port: key.port)
        case .live: needed.include(clusterIP: key.address)
        case .address: break
        }
        if !isFresh, !FrontendBounds(maps.config.pointee).covers(needed) {
            piece.drift.append(Drift(object: "map config", detail: "its bounds exclude \(key.text)"))
        }
        guard let found = try maps.frontends.lookup(key.raw) else {
            piece.drift.append(Drift(object: "map frontends", detail: "\(key.text) is missing"))
            return
        }
        guard found.key == key.raw, found.svc_id == owner.serviceID, found.slot == owner.slot, found.kind == owner.kind
        else {
            piece.drift.append(Drift(object: "map frontends", detail: "\(key.text) was changed"))
            return
        }
    }

    private func strayFrontend(_ raw: heddle_frontend_key) -> Drift? {
        let key = FrontendKey(raw)
        if let key, mirror.owners[key] != nil { return nil }
        return Drift(
            object: "map frontends", detail: "\(key?.text ?? "an unreadable key") belongs to no service")
    }

    private func isKnown(_ name: heddle_service_name, _ serviceID: UInt32) -> Bool {
        name.id.flatMap { mirror.services[$0] }?.serviceID == serviceID
    }

    private func nodeDrift() throws(BPFError) -> [Drift] {
        var drift: [Drift] = []
        if Set(try maps.nodeAddresses.entries().map(\.key.value)) != mirror.nodeAddresses {
            drift.append(Drift(object: "map node_addresses", detail: "was changed"))
        }
        if Set(try maps.serviceCIDRs.keys().compactMap(\.value)) != mirror.serviceCIDRs {
            drift.append(Drift(object: "map service_cidrs", detail: "was changed"))
        }
        return drift
    }
}
