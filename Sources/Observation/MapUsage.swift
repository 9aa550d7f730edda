/// How full the kernel's maps are, as a dataplane tells it.

/// Fill level of one kernel map.
package struct MapUsage: Sendable, Equatable, Codable {
    package var name: String
    package var type: String
    package var entries: Int
    /// 0: no fixed limit.
    package var maxEntries: Int
    /// Kernel memory, measured where the kernel tells, else computed from the entry size.
    package var bytes: Int

    package init(name: String, type: String, entries: Int, maxEntries: Int, bytes: Int) {
        self.name = name
        self.type = type
        self.entries = entries
        self.maxEntries = maxEntries
        self.bytes = bytes
    }
}
