/// Whether node ports and the ports of outgoing connections get in each other's way (spec row 97). Pure.

enum PortRanges {
    /// Kubernetes' default `--service-node-port-range`.
    private static let nodePorts = 30000...32767

    /// `ephemeral`, `reserved`: the texts of ip_local_port_range ("32768 60999") and ip_local_reserved_ports
    /// ("8080,30000-32767").
    static func nodePortWarning(ephemeral: String, reserved: String) -> String? {
        let ends = ephemeral.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
        guard ends.count == 2, ends[0] <= ends[1] else { return nil }
        let overlap = nodePorts.clamped(to: ends[0]...ends[1])
        guard nodePorts.overlaps(ends[0]...ends[1]) else { return nil }
        let ranges = reserved.split(separator: ",").compactMap(range)
        guard !overlap.allSatisfy({ port in ranges.contains { $0.contains(port) } }) else { return nil }
        return "node ports \(overlap.lowerBound)-\(overlap.upperBound) are also given to outgoing connections; add "
            + "30000-32767 to net.ipv4.ip_local_reserved_ports on the host"
    }

    private static func range(_ text: Substring) -> ClosedRange<Int>? {
        let ends = text.split(separator: "-").compactMap { Int($0) }
        guard let first = ends.first, let last = ends.last, first <= last else { return nil }
        return first...last
    }
}
