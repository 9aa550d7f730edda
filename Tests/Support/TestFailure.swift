/// Something of the test's own equipment did not work: not the code under test.
import Glibc

package struct TestFailure: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
    /// For a system call that just failed.
    package static func errno(_ operation: String) -> TestFailure {
        TestFailure("cannot \(operation): \(String(cString: strerror(Glibc.errno)))")
    }
}
