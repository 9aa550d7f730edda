/// How the kernel's content looks: a table grouped by service for people, key=value lines for programs and tests, and
/// the lines that differ between two states. Pure, and linear in what is printed.
import Observation

/// One line for each frontend. The name of a service is in the first of its lines only.
func frontendTable(_ frontends: [KernelDump.Frontend], wide: Bool, paint: Paint) -> String {
    var table = Table("SERVICE", "PORT", "KIND", "FRONTEND", "ACTION", "POLICY", "BACKENDS")
    var group = ""
    for frontend in frontends.sorted() {
        let (name, port) = frontend.serviceAndPort
        let backends = frontend.backends.map { backendText($0, wide: wide) }
        let shown = wide ? backends : Array(backends.prefix(4))
        let more = backends.count > shown.count ? ", +\(backends.count - shown.count)" : ""
        let affinity = frontend.affinitySeconds > 0 ? " (sticky \(frontend.affinitySeconds)s)" : ""
        table.add(
            name == group ? "" : String(name), port.isEmpty ? "-" : String(port), frontend.kind, frontend.place,
            frontend.action + affinity, frontend.policy,
            backends.isEmpty ? "-" : shown.joined(separator: ", ") + more)
        group = String(name)
    }
    guard paint.isOn else { return table.text }
    return table.text { column, cell in
        switch column {
        case 0: paint(.bold, cell)
        case 4 where cell.hasPrefix("balance"): paint(.green, cell)
        case 4 where cell.hasPrefix("proxy") || cell.hasPrefix("tunnel"): cell
        case 4: paint(.red, cell)
        case 6: cell.replacing("(terminating)", with: paint(.yellow, "(terminating)"))
        default: cell
        }
    }
}

/// One line for each backend of each frontend, and one for a frontend without any. Each tells everything, so that lines
/// can be picked, sorted and compared.
func rawText(_ frontends: [KernelDump.Frontend]) -> String {
    var text = ""
    for line in rawLines(frontends) {
        text += line
        text += "\n"
    }
    return text
}

private func rawLines(_ frontends: [KernelDump.Frontend]) -> [String] {
    frontends.sorted().flatMap { frontend -> [String] in
        let start =
            "service=\(frontend.service) kind=\(frontend.kind) frontend=\(frontend.place) action=\(frontend.action) "
            + "policy=\(frontend.policy) affinity=\(frontend.affinitySeconds)"
        guard !frontend.backends.isEmpty else { return [start] }
        return frontend.backends.map { backend in
            start + " backend=\(joined(backend.address, backend.port)) state=\(backend.state) "
                + "local=\(backend.local ? "yes" : "no") weight=\(backend.weight)"
        }.sorted()
    }
}

/// What is in one state and not in the other, as raw lines.
struct DumpChanges: Encodable, Equatable {
    private(set) var removed: [String]
    private(set) var added: [String]

    init(from old: [KernelDump.Frontend], to new: [KernelDump.Frontend]) {
        let (old, new) = (rawLines(old), rawLines(new))
        let (oldLines, newLines) = (Set(old), Set(new))
        removed = old.filter { !newLines.contains($0) }
        added = new.filter { !oldLines.contains($0) }
    }

    private enum CodingKeys: String, CodingKey {
        case removed = "missing"
        case added = "unexpected"
    }

    var isEmpty: Bool { removed.isEmpty && added.isEmpty }

    mutating func formIntersection(_ other: DumpChanges) {
        let (otherRemoved, otherAdded) = (Set(other.removed), Set(other.added))
        removed.removeAll { !otherRemoved.contains($0) }
        added.removeAll { !otherAdded.contains($0) }
    }

    func text(_ paint: Paint) -> String {
        (removed.map { paint(.red, "- " + $0) } + added.map { paint(.green, "+ " + $0) }).map { $0 + "\n" }.joined()
    }
}

extension KernelDump.Frontend {
    /// `10.96.0.1:80/TCP`
    fileprivate var place: String { joined(address, port) + "/" + `protocol` }
}

private func backendText(_ backend: KernelDump.Backend, wide: Bool) -> String {
    joined(backend.address, backend.port) + (backend.state == "active" ? "" : " (\(backend.state))")
        + (wide && backend.local ? " (local)" : "")
}
private func joined(_ address: String, _ port: UInt16) -> String {
    address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)"
}
