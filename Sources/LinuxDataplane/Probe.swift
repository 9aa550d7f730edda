/// The answer to "can this kernel and host do it?", for `heddle-agent preflight` and the choice of dataplane.

package struct ProbeResult: Equatable, Sendable {
    /// What was tried: `map type sk_storage`.
    package let name: String
    package let ok: Bool
    /// What was found; where it is missing, also what to do about it.
    package let detail: String

    package init(name: String, ok: Bool, detail: String) {
        self.name = name
        self.ok = ok
        self.detail = detail
    }
}
