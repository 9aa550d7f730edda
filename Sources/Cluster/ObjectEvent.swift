/// Something that whoever owns an object should know: shown by `kubectl describe` where there is an API server.

package struct ObjectEvent: Hashable, Sendable {
    package let object: ObjectID
    /// `AddressConflict`: one word, the same for all of its sort.
    package let reason: String
    /// What is not done, why, and what to do.
    package let message: String
    /// True of this node only; otherwise every node would say the same, and one is enough.
    package let isOfThisNode: Bool

    package init(_ object: ObjectID, reason: String, message: String, isOfThisNode: Bool = false) {
        self.object = object
        self.reason = reason
        self.message = message
        self.isOfThisNode = isOfThisNode
    }

    /// `address-conflict`, as metrics have it, to `AddressConflict`.
    package static func reason(fromWord word: String) -> String {
        word.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
    }
}
