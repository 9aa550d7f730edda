/// The labels by which pods and namespaces are enrolled in the mesh (l7 spec 1.8).

package struct MeshLabel: Hashable, Sendable, CustomStringConvertible {
    package let key: String
    package let value: String
    /// nil: a value that means nothing.
    package let enrols: Bool?

    private init(_ key: String, _ value: String, _ enrols: Bool?) {
        (self.key, self.value, self.enrols) = (key, value, enrols)
    }

    /// nil: nothing is said. Of both spellings our own goes first, unless its value means nothing.
    package init?(_ labels: [String: String]) {
        let given = Self.spellings.compactMap { key, values in
            labels[key].map { MeshLabel(key, $0, values[$0]) }
        }
        guard let best = given.first(where: { $0.enrols != nil }) ?? given.first else { return nil }
        self = best
    }

    private static let spellings: [(key: String, values: [String: Bool])] = [
        ("heddle.io/mesh", ["enabled": true, "disabled": false]),
        ("istio.io/dataplane-mode", ["ambient": true, "none": false]),
    ]

    /// What may be written instead of a value that means nothing.
    package var knownValues: String { isOwn ? "enabled or disabled" : "ambient or none" }
    /// Istio's label may be meant for another mesh.
    package var isOwn: Bool { key == Self.spellings[0].key }
    package var description: String { "\(key)=\(value)" }
}
