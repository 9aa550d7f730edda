/// A failed call into libbpf or the kernel: what was being done, errno, and the sentence to show.
import Glibc

package struct BPFError: Error, CustomStringConvertible {
    /// What was being done, naming the kernel object: `update map frontends`.
    package let operation: String
    /// errno.
    package let code: Int32
    package let detail: String?

    package init(_ operation: String, _ code: Int32, detail: String? = nil) {
        self.operation = operation
        self.code = code
        self.detail = detail
    }
    package var description: String {
        "\(operation): \(String(cString: strerror(code)))" + (detail.map { "; \($0)" } ?? "")
    }
}
