/// A file, socket or process operation that the system refused: a sentence that names the object.
import Glibc

package struct PosixError: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String
    /// errno; 0: the system was not asked.
    package let code: Int32

    package init(_ description: String, code: Int32 = 0) {
        self.description = description
        self.code = code
    }
    package var reason: String { code == 0 ? description : String(cString: strerror(code)) }
    /// `cannot OPERATION: No such file or directory`
    package static func errno(_ operation: String, _ code: Int32 = Glibc.errno) -> PosixError {
        PosixError("cannot \(operation): \(String(cString: strerror(code)))", code: code)
    }
}
