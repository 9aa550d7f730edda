/// Comparing the kernel with what we wrote. A quick audit looks at links, pins and the mapped arrays, where a service
/// lives or dies; a full one reads every hash entry as well.
import Addressing
import BPF
import CDataplaneABI
import DataplaneIR
import Glibc
package import Reconcile

extension BPFDataplane {
    package func verify(quick: Bool) throws(DataplaneError) -> [Drift] {
        do throws(BPFError) {
            var drift: [Drift] = []
            if isMirrorDoubtful {
                drift.append(Drift(object: "maps", detail: "the last update failed; a full plan puts them right"))
            }
            drift += attachment.drift(CgroupHook.needed(by: node))
            drift += pinDrift()
            drift += try serviceDrift()
            drift += configurationDrift()
            if !quick { drift += try frontendDrift() + nameDrift() + nodeDrift() }
            return drift
        } catch {
            throw DataplaneError(error)
        }
    }

    private func pinDrift() -> [Drift] {
        let directory = isStaged ? pins.staging : pins.maps
        return maps.descriptors.keys.sorted().compactMap { name in
            let pinned = try? BPFDescriptor.pinned(at: "\(directory)/\(name)")
            let isOurs = (try? pinned?.mapID()) == (try? maps.descriptors[name]?.mapID())
            return isOurs ? nil : Drift(object: "map \(name)", detail: "is not pinned at \(directory)/\(name)")
        }
    }

    private func serviceDrift() throws(BPFError) -> [Drift] {
        var drift: [Drift] = []
        var seen = 0
        for (id, record) in mirror.services {
            if try maps.published(record.slot) != record.published {
                drift.append(Drift(object: "map services", detail: "the entry of \(id) was changed"))
                continue
            }
            seen += 1
            let base = Int(record.published.base)
            let memory = try maps.backends.elements(upTo: base + record.entryCount) + base
            if !record.block.equals(memory) {
                drift.append(Drift(object: "map backends", detail: "the endpoints of \(id) were changed"))
            }
        }
        // Words that belong to no service.
        let words = try maps.services.elements(upTo: maps.services.count)
        var used = 0
        for slot in 0..<maps.services.count where words[slot] != 0 { used += 1 }
        if used > mirror.services.count {
            drift.append(
                Drift(object: "map services", detail: "\(used - seen) entries belong to no service"))
        }
        return drift
    }

    private func configurationDrift() -> [Drift] {
        var bounds = FrontendBounds()
        for record in mirror.services.values {
            for frontend in record.program.frontends {
                if frontend.kind == .nodePort { bounds.include(port: frontend.port) }
                if frontend.kind == .clusterIP, let address = frontend.address { bounds.include(clusterIP: address) }
            }
        }
        let config = maps.config.pointee
        let isRight =
            FrontendBounds(config).covers(bounds) && config.has_service_cidrs == (node.serviceCIDRs.isEmpty ? 0 : 1)
            && config.has_detector == detectorBits(node)
            && config.node_port_loopback == (node.nodePortLoopback ? 1 : 0) && config.node_cookie == nodeCookie
            && config.rules_serve_udp == rulesServeUDP && ProxyFields(config) == ProxyFields(node)
        return isRight || isFresh ? [] : [Drift(object: "map config", detail: "was changed")]
    }

    private func frontendDrift() throws(BPFError) -> [Drift] {
        var drift: [Drift] = []
        var missing = mirror.owners
        for (raw, value) in try maps.frontends.entries() {
            guard let key = FrontendKey(raw), let owner = missing.removeValue(forKey: key) else {
                let text = FrontendKey(raw)?.text ?? "an unreadable key"
                drift.append(Drift(object: "map frontends", detail: "\(text) belongs to no service"))
                continue
            }
            guard value.key == raw, value.svc_id == owner.serviceID, value.slot == owner.slot,
                value.kind == owner.kind
            else {
                drift.append(Drift(object: "map frontends", detail: "\(key.text) was changed"))
                continue
            }
        }
        for key in missing.keys { drift.append(Drift(object: "map frontends", detail: "\(key.text) is missing")) }
        return drift
    }

    private func nameDrift() throws(BPFError) -> [Drift] {
        var drift: [Drift] = []
        var missing: [UInt32: ServiceRecord] = [:]
        for record in mirror.services.values { missing[record.serviceID] = record }
        for (serviceID, name) in try maps.serviceNames.entries() {
            let record = missing.removeValue(forKey: serviceID)
            if record == nil || record?.program.id != name.id || record?.slot != name.slot {
                drift.append(Drift(object: "map service_names", detail: "entry \(serviceID) belongs to no service"))
            }
        }
        for record in missing.values {
            drift.append(Drift(object: "map service_names", detail: "the name of \(record.program.id) is missing"))
        }
        return drift
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
