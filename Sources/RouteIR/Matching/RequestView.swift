/// What the matcher asks of a request. The proxy answers from its read buffer, `explain` from options: nothing is
/// copied for it and no String is made.

package protocol RequestView {
    func method<Result>(_ body: (Span<UInt8>) -> Result) -> Result
    /// The path as it was sent, without the query.
    func path<Result>(_ body: (Span<UInt8>) -> Result) -> Result
    /// What follows the first `?`; empty without one.
    func query<Result>(_ body: (Span<UInt8>) -> Result) -> Result
    /// Whether the header (its name in lower case) is there and its value passes the test. Several lines of one name
    /// count as one, their values joined by a comma without a space.
    func header(_ name: String, passes test: (Span<UInt8>) -> Bool) -> Bool
}

extension Span<UInt8> {
    func elementsEqual(_ text: [UInt8]) -> Bool {
        guard count == text.count else { return false }
        for index in 0..<count where self[index] != text[index] { return false }
        return true
    }

    func starts(with text: [UInt8]) -> Bool {
        guard count >= text.count else { return false }
        for index in 0..<text.count where self[index] != text[index] { return false }
        return true
    }
}
