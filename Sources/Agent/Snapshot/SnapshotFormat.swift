/// The last good state of the cluster as a file: a line that says what it is, one line of JSON for each object, and a
/// line with their number and a checksum. A file that is torn, foreign or of another version is refused as a whole.
import Cluster
import FoundationEssentials

struct SnapshotHeader: Codable, Equatable, Sendable {
    static let currentVersion = 1

    var version = SnapshotHeader.currentVersion
    var node: String
    /// Where the objects came from: another cluster's state must not be used.
    var source: String
    /// Seconds since 1970.
    var writtenAt: Double
}

struct Snapshot: Equatable, Sendable {
    var header: SnapshotHeader
    var objects: [ClusterObject]
}

/// Why a file is no snapshot that can be used.
struct SnapshotError: Error, Equatable, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

enum SnapshotFormat {
    private static let magic = "heddle-snapshot "
    private static let end = "end "

    /// Hands the file over in pieces, so that it is never in memory as a whole.
    static func write<E: Error>(
        _ header: SnapshotHeader, _ objects: [ClusterObject], to put: ([UInt8]) throws(E) -> Void
    ) throws(E) {
        let encoder = JSONEncoder()
        var checksum = CRC32()
        var piece: [UInt8] = []
        var count = 0
        func append(_ line: Data) throws(E) {
            piece.append(contentsOf: line)
            piece.append(UInt8(ascii: "\n"))
            guard piece.count > 1 << 16 else { return }
            checksum.add(piece)
            try put(piece)
            piece.removeAll(keepingCapacity: true)
        }
        // What we made ourselves can be encoded; if not, the number of objects is that of those in the file.
        guard let first = try? encoder.encode(header) else { return }
        try append(Data(magic.utf8) + first)
        for object in objects {
            guard let line = try? encoder.encode(object) else { continue }
            try append(line)
            count += 1
        }
        checksum.add(piece)
        try put(piece)
        try put(Array("\(end)\(count) \(checksum.value)\n".utf8))
    }

    /// The first line of a file that is ours; of the rest nothing need be there.
    static func readHeader(_ bytes: [UInt8], node: String, source: String) throws(SnapshotError) -> SnapshotHeader {
        guard bytes.starts(with: magic.utf8) else { throw SnapshotError("it is not a snapshot of Heddle") }
        let first = bytes.prefix { $0 != UInt8(ascii: "\n") }
        let data = Data(first.dropFirst(magic.utf8.count))
        guard first.count < bytes.count, let header = try? JSONDecoder().decode(SnapshotHeader.self, from: data)
        else { throw SnapshotError("its first line cannot be read") }
        guard header.version == SnapshotHeader.currentVersion else {
            throw SnapshotError(
                "it has version \(header.version), and this agent reads version \(SnapshotHeader.currentVersion)")
        }
        guard header.node == node, header.source == source else {
            throw SnapshotError("it is of node \(header.node) and \(header.source), not of \(node) and \(source)")
        }
        return header
    }

    static func read(_ bytes: [UInt8], node: String, source: String) throws(SnapshotError) -> Snapshot {
        let header = try readHeader(bytes, node: node, source: source)
        let lines = bytes.split(separator: UInt8(ascii: "\n"))
        let decoder = JSONDecoder()
        guard let last = lines.last, lines.count >= 2, last.starts(with: end.utf8), bytes.last == UInt8(ascii: "\n")
        else {
            throw SnapshotError("its end is missing")
        }
        let body = bytes[..<last.startIndex]
        var checksum = CRC32()
        checksum.add(body)
        guard String(decoding: last, as: UTF8.self) == "\(end)\(lines.count - 2) \(checksum.value)" else {
            throw SnapshotError("its checksum is wrong")
        }
        var objects: [ClusterObject] = []
        objects.reserveCapacity(lines.count - 2)
        for line in lines.dropFirst().dropLast() {
            guard let object = try? decoder.decode(ClusterObject.self, from: Data(line)) else {
                throw SnapshotError("object \(objects.count + 1) in it cannot be read")
            }
            objects.append(object)
        }
        return Snapshot(header: header, objects: objects)
    }
}

/// The checksum of Ethernet and gzip (IEEE 802.3).
struct CRC32 {
    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ 0xedb8_8320 : crc >> 1 }
    }
    private var state = UInt32.max
    var value: UInt32 { ~state }

    mutating func add(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { state = state >> 8 ^ Self.table[Int(UInt8(truncatingIfNeeded: state) ^ byte)] }
    }
}
