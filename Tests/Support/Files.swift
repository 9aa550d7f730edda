/// The little file handling tests need, without Foundation.
import Glibc

/// The file's text; empty when it cannot be read.
package func readText(_ path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    while true {
        let chunk = [UInt8](unsafeUninitializedCapacity: 65536) {
            $1 = max(0, read(descriptor, $0.baseAddress, $0.count))
        }
        if chunk.isEmpty { return String(decoding: bytes, as: UTF8.self) }
        bytes += chunk
    }
}

/// Replaces the file in one step (write beside it, rename), as an editor or a ConfigMap mount does.
package func writeText(_ text: String, to path: String) throws(TestFailure) {
    let temporary = path + ".new"
    try writeInPlace(text, to: temporary, flags: O_WRONLY | O_CREAT | O_TRUNC)
    guard rename(temporary, path) == 0 else { throw .errno("rename \(temporary)") }
}

/// Writes into a file that exists, as sysctls and cgroup files want it.
package func writeInPlace(_ text: String, to path: String, flags: Int32 = O_WRONLY) throws(TestFailure) {
    let descriptor = open(path, flags | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw .errno("open \(path)") }
    defer { close(descriptor) }
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { throw .errno("write \(path)") }
        rest = rest.dropFirst(count)
    }
}

package func directoryEntries(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var result: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if name != ".", name != ".." { result.append(name) }
    }
    return result.sorted()
}

/// A directory below /tmp that vanishes with its contents when the object does.
package final class TemporaryDirectory: Sendable {
    package let path: String

    package init() throws(TestFailure) {
        var template = Array("/tmp/hd-\(getpid())-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw .errno("make a directory in /tmp") }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
    deinit { removeTree(path) }
}

/// Removes a file or a directory with everything in it; what is not there or cannot be removed is left.
package func removeTree(_ path: String) {
    if unlink(path) == 0 || rmdir(path) == 0 { return }
    for name in directoryEntries(path) { removeTree(path + "/" + name) }
    rmdir(path)
}
