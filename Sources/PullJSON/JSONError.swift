/// Why bytes are not the JSON that was asked for.

package struct JSONError: Error, Equatable, CustomStringConvertible {
    /// What is wrong, as the end of a sentence.
    package let message: String
    /// Where in the bytes, counted from 0.
    package let offset: Int

    package init(_ message: String, at offset: Int) {
        self.message = message
        self.offset = offset
    }

    package var description: String { "not valid JSON at byte \(offset): \(message)" }
}
