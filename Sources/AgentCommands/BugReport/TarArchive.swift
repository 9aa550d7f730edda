/// Files in a gzipped tar archive (POSIX ustar), written as they come.
import CZlib
import Glibc

struct TarArchive: ~Copyable {
    private let file: gzFile
    private let path: String
    /// Seconds since 1970.
    private let time: Int

    static func isStandardOutput(_ path: String) -> Bool { path == "-" || path == "/dev/stdout" }

    /// A file is readable for the owner only, and one that is there is not replaced.
    init(path: String, time: Int) throws(CommandFailure) {
        let isStandardOutput = Self.isStandardOutput(path)
        guard !isStandardOutput || isatty(STDOUT_FILENO) == 0 else {
            throw CommandFailure("standard output is a terminal; redirect it into a file: --file - > FILE")
        }
        let descriptor =
            isStandardOutput
            ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw CommandFailure(
                "\(path) cannot be made: \(String(cString: strerror(errno))); pass another place as --file, or write "
                    + "to standard output: --file - > FILE")
        }
        guard let file = gzdopen(descriptor, "wb9") else {
            close(descriptor)
            throw CommandFailure("\(path): no memory to compress it")
        }
        self.file = file
        self.path = path
        self.time = time
    }

    func add(_ name: String, _ text: String) throws(CommandFailure) {
        let content = Array(text.utf8)
        try write(header(name, content.count))
        try write(content)
        try write([UInt8](repeating: 0, count: (512 - content.count % 512) % 512))
    }

    consuming func finish() throws(CommandFailure) {
        try write([UInt8](repeating: 0, count: 1024))
        guard gzclose(file) == Z_OK else { throw failure() }
    }

    private func header(_ name: String, _ size: Int) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, at start: Int, _ length: Int) {
            for (offset, byte) in text.utf8.prefix(length).enumerated() { header[start + offset] = byte }
        }
        func octal(_ value: Int, _ digits: Int) -> String {
            let text = String(value, radix: 8)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        put(name, at: 0, 100)
        put("0000600", at: 100, 7)
        put("0000000", at: 108, 7)
        put("0000000", at: 116, 7)
        put(octal(size, 11), at: 124, 11)
        put(octal(time, 11), at: 136, 11)
        put("        ", at: 148, 8)
        put("0", at: 156, 1)
        put("ustar", at: 257, 5)
        put("00", at: 263, 2)
        // The sum is taken with blanks in its place.
        put(octal(header.reduce(0) { $0 + Int($1) }, 6) + "\0 ", at: 148, 8)
        return header
    }

    private func failure() -> CommandFailure {
        CommandFailure("\(path) could not be written: \(String(cString: strerror(errno))); see --file")
    }

    private func write(_ bytes: [UInt8]) throws(CommandFailure) {
        guard !bytes.isEmpty else { return }
        let count = bytes.withUnsafeBytes { gzwrite(file, $0.baseAddress, UInt32($0.count)) }
        guard count == Int32(bytes.count) else { throw failure() }
    }
}
