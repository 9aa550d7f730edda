/// A namespace or cgroup operation that the kernel refused.
import Glibc

package struct NetnsError: Error, CustomStringConvertible {
    /// What was being done, naming the object: `open /run/netns/web`.
    package let operation: String
    /// errno.
    package let code: Int32

    package init(_ operation: String, code: Int32) {
        self.operation = operation
        self.code = code
    }

    package var description: String {
        "cannot \(operation): \(String(cString: strerror(code)))\(remedy)"
    }
    private var remedy: String {
        switch code {
        case EPERM, EACCES: " (needs CAP_SYS_ADMIN)"
        case EMFILE, ENFILE: " (raise the limit of open files)"
        default: ""
        }
    }
}

/// Turns the C convention "negative means look at errno" into a thrown error.
@discardableResult
func check(_ result: Int32, _ operation: @autoclosure () -> String) throws(NetnsError) -> Int32 {
    guard result >= 0 else { throw NetnsError(operation(), code: errno) }
    return result
}
