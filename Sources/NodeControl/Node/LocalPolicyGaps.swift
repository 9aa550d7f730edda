/// Service ports under policy Local that have endpoints elsewhere but none here: their traffic is dropped on this node
/// (spec rows 99, 152). Kept up to date from the programs that changed.
package import Addressing
package import DataplaneIR

package struct LocalPolicyGaps: Sendable {
    package private(set) var `internal`: [AddressFamily: Set<ServicePortID>] = [:]
    package private(set) var external: [AddressFamily: Set<ServicePortID>] = [:]

    mutating func update(_ ids: some Sequence<ServicePortID>, programs: [ServicePortID: ServiceProgram]) {
        for id in ids {
            let program = programs[id]
            let hasGap = program.map { $0.hasEndpoints && $0.localRange.isEmpty } ?? false
            let isLocalInside = hasGap && program?.internalPolicy == .local
            let isLocalOutside =
                hasGap && program?.externalPolicy == .local
                && program?.frontends.contains { $0.kind.isExternal } ?? false
            set(id, isLocalInside, &`internal`)
            set(id, isLocalOutside, &external)
        }
    }

    private func set(_ id: ServicePortID, _ isIn: Bool, _ sets: inout [AddressFamily: Set<ServicePortID>]) {
        if isIn { sets[id.family, default: []].insert(id) } else { sets[id.family]?.remove(id) }
    }
}
