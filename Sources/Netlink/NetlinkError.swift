/// The error of this module: which request failed and the errno the kernel gave for it.
import Glibc

package struct NetlinkError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was asked, naming the kernel object: `list UDP conntrack entries`.
    package let operation: String
    /// errno.
    package let code: Int32

    package init(operation: String, code: Int32) {
        self.operation = operation
        self.code = code
    }
    package var description: String { "\(operation): \(String(cString: strerror(code)))" }
}
