/// Lets a test make any kernel write fail: the dataplanes ask before each one.

package struct FaultInjector: Sendable {
    private let decide: (@Sendable (_ operation: String) -> Int32?)?

    /// `decide` gets the name of the operation and returns the errno to pretend, or nil to go on.
    package init(_ decide: @escaping @Sendable (_ operation: String) -> Int32?) { self.decide = decide }
    private init() { decide = nil }

    /// The product's: nothing ever fails on purpose.
    package static let none = FaultInjector()

    package func error(for operation: @autoclosure () -> String) -> Int32? { decide?(operation()) }
}
