/// What can be wrong with a text, and how much of it is read before it is refused.

package struct YAMLError: Error, Equatable, CustomStringConvertible {
    /// Counted from 1.
    package let line: Int
    package let message: String

    package init(line: Int, message: String) {
        self.line = line
        self.message = message
    }
    package var description: String { "line \(line): \(message)" }
}

/// Bounds that keep a hostile or broken text from taking the node's memory or time.
package struct YAMLLimits: Sendable {
    /// Bytes of the whole text.
    package var bytes = 64 << 20
    /// How deep sequences and mappings may be nested.
    package var depth = 64
    /// Values and keys in one document.
    package var nodes = 4_000_000
    /// How many of them may be there because aliases stand for them: a few lines of aliases could be gigabytes.
    package var aliased = 500_000

    package init() {}
}
