/// Reads services back out of the maps: for a restarted agent, which adopts what it finds, and for `dump-maps`. What
/// does not fit together is not a service; its pieces are strays.
import Addressing
import BPF
import CDataplaneABI
import DataplaneIR

struct AdoptedService {
    var serviceID: UInt32
    var slot: UInt32
    var published: Published
    var program: ServiceProgram
    var uids: [UInt32]
}

struct KernelState {
    var services: [AdoptedService] = []
    /// Cluster IPs marked as in use.
    var liveAddresses: Set<IPAddress> = []
    /// Keys of `frontends` that belong to no whole service.
    var strayFrontends: [heddle_frontend_key] = []
    /// Entries of `service_names` without a published block.
    var strayNames: [UInt32] = []

    init(reading maps: BPFMaps) throws(BPFError) {
        var frontends: [UInt32: [heddle_frontend]] = [:]
        for (rawKey, value) in try maps.frontends.entries() {
            guard let key = FrontendKey(rawKey), key.raw == rawKey, value.key == rawKey else {
                strayFrontends.append(rawKey)
                continue
            }
            if key.scope == .live {
                liveAddresses.insert(key.address)
            } else {
                frontends[value.svc_id, default: []].append(value)
            }
        }
        for (serviceID, name) in try maps.serviceNames.entries() {
            let mine = frontends.removeValue(forKey: serviceID) ?? []
            guard let service = try Self.read(maps, serviceID, name, mine) else {
                strayNames.append(serviceID)
                strayFrontends += mine.map(\.key)
                continue
            }
            services.append(service.service)
            strayFrontends += service.strays
        }
        for rest in frontends.values { strayFrontends += rest.map(\.key) }
    }

    private static func read(
        _ maps: BPFMaps, _ serviceID: UInt32, _ name: heddle_service_name, _ entries: [heddle_frontend]
    ) throws(BPFError) -> (service: AdoptedService, strays: [heddle_frontend_key])? {
        guard let id = name.id, let (published, block) = try readBlock(maps, serviceID, name.slot) else { return nil }
        var strays: [heddle_frontend_key] = []
        var frontends: [Frontend] = []
        for entry in entries {
            guard entry.slot == name.slot, let key = FrontendKey(entry.key),
                key.transport == id.transport.rawValue,
                let frontend = Frontend(
                    abiKind: entry.kind, key.scope == .node ? nil : key.address, key.port)
            else {
                strays.append(entry.key)
                continue
            }
            frontends.append(frontend)
        }
        let program = ServiceProgram(
            id: id, frontends: frontends.sorted(), backends: block.backends, clusterRange: 0..<block.clusterCount,
            localRange: block.localRange, internalPolicy: block.internalPolicy, externalPolicy: block.externalPolicy,
            affinitySeconds: block.affinitySeconds)
        let service = AdoptedService(
            serviceID: serviceID, slot: name.slot, published: published, program: program, uids: block.uids)
        return (service, strays)
    }

    /// An agent may be publishing meanwhile (for `dump-maps`): then the word has changed after the block was read.
    private static func readBlock(
        _ maps: BPFMaps, _ serviceID: UInt32, _ slot: UInt32
    ) throws(BPFError) -> (Published, BackendBlock)? {
        var published = try maps.published(slot)
        for _ in 0..<8 {
            guard published.word != 0 else { return nil }
            let block = try maps.block(published, serviceID: serviceID)
            let after = try maps.published(slot)
            if after == published { return block.map { (published, $0) } }
            published = after
        }
        return nil
    }
}

extension heddle_frontend_key {
    static func == (a: heddle_frontend_key, b: heddle_frontend_key) -> Bool {
        a.address.high == b.address.high && a.address.low == b.address.low && a.port == b.port
            && a.protocol == b.protocol && a.scope == b.scope && a.unused == b.unused
    }
}
