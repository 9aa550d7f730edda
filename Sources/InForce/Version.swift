/// A resourceVersion: a number that grows with every write to the API server (KEP-5504). One that is none says only
/// whether it is equal to another.

package enum Version: Hashable, Sendable {
    case number(UInt64)
    case other(String)

    /// nil: none, or longer than any that an API server makes.
    package init?(_ text: String) {
        guard !text.isEmpty, text.utf8.count <= 64 else { return nil }
        self = UInt64(text).map { .number($0) } ?? .other(text)
    }

    package func isReached(by position: Version?) -> Bool {
        if case .number(let wanted) = self, case .number(let position)? = position { return position >= wanted }
        return self == position
    }
}
