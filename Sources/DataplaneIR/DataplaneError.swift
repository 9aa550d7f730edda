/// What a kernel operation that failed says of itself, to whoever decides what becomes of it.

/// A failed kernel operation: nothing of the plan, or only whole services of it, is in force. Safe to retry.
package struct DataplaneError: Error, CustomStringConvertible {
    /// What was being done, naming the kernel object: `add element services 10.96.0.1:80`.
    package let operation: String
    /// errno.
    package let code: Int32
    /// The whole sentence, including what to do where that is known.
    package let description: String

    package init(operation: String, code: Int32, description: String) {
        self.operation = operation
        self.code = code
        self.description = description
    }
}
