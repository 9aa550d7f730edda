/// Reading files and writing to descriptors to the end: signals, and system calls that do half of it, are seen to here.
import Glibc

/// The first `limit` bytes of a file; all of it where it has no more.
package func readFile(_ path: String, upTo limit: Int) throws(PosixError) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .errno("read \(path)") }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    let code: Int32 = withUnsafeTemporaryAllocation(byteCount: 1 << 16, alignment: 1) { chunk in
        while bytes.count < limit {
            let count = read(descriptor, chunk.baseAddress, min(chunk.count, limit - bytes.count))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return count < 0 ? errno : 0 }
            bytes += chunk[..<count]
        }
        return 0
    }
    guard code == 0 else { throw .errno("read \(path)", code) }
    return bytes
}

/// A whole file. One of more than `limit` bytes is refused, with EFBIG.
package func readFile(_ path: String, limit: Int) throws(PosixError) -> [UInt8] {
    let bytes = try readFile(path, upTo: limit + 1)
    guard bytes.count <= limit else { throw PosixError("\(path) has more than \(limit) bytes", code: EFBIG) }
    return bytes
}

/// The first MiB of a file as text; nil: it cannot be read.
package func readSmallFile(_ path: String) -> String? {
    (try? readFile(path, upTo: 1 << 20)).map { String(decoding: $0, as: UTF8.self) }
}

/// How far writing came.
package struct WriteOutcome: Equatable, Sendable {
    /// Bytes that the system took.
    package let count: Int
    /// errno of what kept the rest; 0: all of it was taken.
    package let code: Int32

    package init(count: Int, code: Int32) {
        self.count = count
        self.code = code
    }
}

/// Writes all of it, and waits for room as long as it takes.
package func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> WriteOutcome {
    inPieces(bytes) { piece in
        while true {
            let count = write(descriptor, piece.baseAddress, piece.count)
            guard count < 0, errno == EAGAIN else { return count }
            var room = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            poll(&room, 1, -1)
        }
    }
}

/// Writes all of it to a socket, without SIGPIPE. One that does not wait, or has no room within its own time limit
/// (SO_SNDTIMEO), is EAGAIN.
package func sendAll(_ bytes: [UInt8], to socket: Int32) -> WriteOutcome {
    inPieces(bytes) { send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
}

private func inPieces(_ bytes: [UInt8], _ put: (UnsafeRawBufferPointer) -> Int) -> WriteOutcome {
    bytes.withUnsafeBytes { raw in
        var taken = 0
        while taken < raw.count {
            let count = put(UnsafeRawBufferPointer(rebasing: raw[taken...]))
            if count < 0, errno == EINTR { continue }
            // Whoever takes nothing and has no error would be asked for ever.
            guard count > 0 else { return WriteOutcome(count: taken, code: count < 0 ? errno : EIO) }
            taken += count
        }
        return WriteOutcome(count: taken, code: 0)
    }
}

/// What a directory has in it, in no order; empty where there is none.
package func directoryNames(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if name != ".", name != ".." { names.append(name) }
    }
    return names
}
