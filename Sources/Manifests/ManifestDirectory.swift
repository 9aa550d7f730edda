/// System calls on the directory's files: listing, telling whether a file changed, reading it whole within bounds.
import Glibc

struct ManifestDirectory {
    /// What changes whenever a file is written or replaced.
    struct Signature: Equatable {
        var device: UInt64
        var inode: UInt64
        var size: Int64
        var changedSeconds: Int
        var changedNanoseconds: Int
    }
    enum Reading {
        case bytes([UInt8], Signature)
        /// There is no such file.
        case missing
        /// There is one, but it cannot be read: a sentence saying why and what to do.
        case unreadable(String)
    }

    let path: String
    let maximumBytes: Int

    static func isManifest(_ name: String) -> Bool {
        guard name.utf8.first != UInt8(ascii: ".") else { return false }
        return name.hasSuffix(".yaml") || name.hasSuffix(".yml") || name.hasSuffix(".json")
    }

    /// Names of all manifests, sorted, and names that are not UTF-8, as they can be shown; nil with `errno` set if the
    /// directory cannot be listed.
    func list() -> (names: [String], unreadable: [String])? {
        guard let stream = opendir(path) else { return nil }
        defer { closedir(stream) }
        var names: [String] = []
        var unreadable: [String] = []
        while let entry = readdir(stream) {
            withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                let bytes = bytes.prefix { $0 != 0 }
                if let name = String(validating: bytes, as: UTF8.self) {
                    if Self.isManifest(name) { names.append(name) }
                } else if Self.isManifest(String(decoding: bytes, as: UTF8.self)) {
                    unreadable.append(escaped(bytes))
                }
            }
        }
        return (names.sorted(), unreadable.sorted())
    }

    /// The signature of what a name leads to, and when it was written; nil if it leads nowhere.
    func status(_ name: String) -> (signature: Signature, writtenSeconds: Int)? {
        var status = stat()
        guard stat("\(path)/\(name)", &status) == 0 else { return nil }
        return (Signature(status), status.st_mtim.tv_sec)
    }
    /// The same of many names. False: the directory cannot be opened.
    func forEachStatus(
        _ names: some Sequence<String>, _ body: (String, (signature: Signature, writtenSeconds: Int)?) -> Void
    ) -> Bool {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        for name in names {
            var status = stat()
            let isThere = fstatat(descriptor, name, &status, 0) == 0
            body(name, isThere ? (Signature(status), status.st_mtim.tv_sec) : nil)
        }
        return true
    }
    func isSymbolicLink(_ name: String) -> Bool { mode(name).map { $0 & S_IFMT == S_IFLNK } ?? false }
    /// Whether a name that just appeared stands for a file somebody is about to write.
    func isNewRegularFile(_ name: String) -> Bool {
        var status = stat()
        return lstat("\(path)/\(name)", &status) == 0 && status.st_mode & S_IFMT == S_IFREG && status.st_nlink == 1
    }
    private func mode(_ name: String) -> mode_t? {
        var status = stat()
        return lstat("\(path)/\(name)", &status) == 0 ? status.st_mode : nil
    }

    func read(_ name: String) -> Reading {
        // Without O_NONBLOCK opening a named pipe would wait for its writer for ever.
        let descriptor = open("\(path)/\(name)", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else {
            let error = errno
            if error == ENOENT { return mode(name) == nil ? .missing : .unreadable("is a link that leads nowhere") }
            return .unreadable("cannot be opened: \(message(error)); make it readable for the agent")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return .unreadable("cannot be read: \(message(errno))") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            return .unreadable("is not a regular file; remove or rename it")
        }
        let tooLong = "has more than \(maximumBytes) bytes and is not read; divide it into several files"
        guard status.st_size <= maximumBytes else { return .unreadable(tooLong) }
        var failure: Int32 = 0
        // One byte more than expected, so that a file that grows meanwhile is noticed.
        var expected = Int(status.st_size) + 1
        var bytes: [UInt8] = []
        while failure == 0, bytes.count <= maximumBytes {
            let chunk = [UInt8](unsafeUninitializedCapacity: expected) { buffer, count in
                let result = Glibc.read(descriptor, buffer.baseAddress, expected)
                if result < 0 { failure = errno }
                count = max(result, 0)
            }
            if failure == EINTR { failure = 0 } else if chunk.isEmpty { break }
            if bytes.isEmpty { bytes = chunk } else { bytes += chunk }
            expected = 65536
        }
        if failure != 0 { return .unreadable("cannot be read: \(message(failure))") }
        if bytes.count > maximumBytes { return .unreadable(tooLong) }
        return .bytes(bytes, Signature(status))
    }
}

extension ManifestDirectory.Signature {
    init(_ status: stat) {
        // The change time moves with every write, rename and chmod, and nobody can set it back.
        self.init(
            device: UInt64(status.st_dev), inode: UInt64(status.st_ino), size: Int64(status.st_size),
            changedSeconds: status.st_ctim.tv_sec, changedNanoseconds: status.st_ctim.tv_nsec)
    }
}

/// ASCII as it is, all else as `\\xe9`.
private func escaped(_ bytes: some Sequence<UInt8>) -> String {
    var text = ""
    for byte in bytes {
        switch byte {
        case 0x20..<0x7f: text.unicodeScalars.append(Unicode.Scalar(byte))
        default: text += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
    }
    return text
}

/// The text of an `errno`.
func message(_ error: Int32) -> String { String(cString: strerror(error)) }
