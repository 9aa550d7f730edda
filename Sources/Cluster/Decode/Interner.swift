/// One copy of each text that many objects repeat: a hundred thousand endpoints name the same few thousand nodes and
/// zones, and a text of more than 15 bytes is an allocation of its own.

package struct Interner {
    private var known: Set<String> = []

    package init() {}

    package mutating func intern(_ text: String) -> String {
        // Up to 15 bytes a String holds its text itself.
        guard text.utf8.count > 15 else { return text }
        let (inserted, member) = known.insert(text)
        return inserted ? text : member
    }
}
