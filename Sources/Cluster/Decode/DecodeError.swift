/// Why an object was refused, and what was left out of one that was not.

package struct DecodeError: Error, Equatable, CustomStringConvertible {
    /// `spec.ports[0].port`; empty for the object as a whole.
    package private(set) var path: String
    /// What is wrong and what to do.
    package let message: String
    /// Counted from 1.
    package let line: Int

    package init(_ message: String, path: String = "", line: Int) {
        self.message = message
        self.path = path
        self.line = line
    }

    package var description: String { "line \(line): " + (path.isEmpty ? message : "\(path): \(message)") }

    func inside(field: String) -> DecodeError {
        prefixed(with: path.isEmpty || path.first == "[" ? field : field + ".")
    }
    func inside(index: Int) -> DecodeError {
        prefixed(with: path.isEmpty || path.first == "[" ? "[\(index)]" : "[\(index)].")
    }
    private func prefixed(with prefix: String) -> DecodeError {
        var copy = self
        copy.path = prefix + path
        return copy
    }
}

/// A part that was left out while the rest of the object is used.
package struct DecodeNote: Equatable, Sendable {
    package let path: String
    package let message: String
    package let line: Int
}
