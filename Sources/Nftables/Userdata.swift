/// Userdata: what the kernel keeps with an object for user space. `nft` prints its comments from it and finds there how
/// to print a map's keys; we keep a rule's fingerprint in it as well.

package struct Userdata: Sendable, Hashable {
    package private(set) var bytes: [UInt8] = []

    package init() {}
    package init(comment: String) { append(UserdataType.comment, comment: comment) }

    /// One field: type, length, value. A field holds at most 255 bytes.
    package mutating func append(_ type: UInt8, _ value: [UInt8]) {
        bytes.append(type)
        bytes.append(UInt8(value.count))
        bytes += value
    }
    package mutating func append(_ type: UInt8, _ value: UInt32) {
        append(type, withUnsafeBytes(of: value) { Array($0) })
    }
    package mutating func append(_ type: UInt8, _ value: Userdata) { append(type, value.bytes) }

    package mutating func append(_ type: UInt8, comment: String) {
        append(type, Array(comment.utf8.prefix(UserdataType.maxComment)) + [0])
    }

    /// The value of the first field of a type, found in what the kernel returned.
    package static func field(_ type: UInt8, in bytes: [UInt8]) -> [UInt8]? {
        var at = 0
        while at + 2 <= bytes.count {
            let end = at + 2 + Int(bytes[at + 1])
            guard end <= bytes.count else { return nil }
            if bytes[at] == type { return Array(bytes[at + 2..<end]) }
            at = end
        }
        return nil
    }
    package static func comment(_ type: UInt8 = UserdataType.comment, in bytes: [UInt8]) -> String? {
        field(type, in: bytes).map { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}

/// Field types. The kernel does not look at them; `nft` knows the first ones and skips the others.
package enum UserdataType {
    /// Comment of a table, chain, rule or element.
    package static let comment: UInt8 = 0
    package static let setComment: UInt8 = 7
    /// Ours: hash of the rule's expressions.
    package static let fingerprint: UInt8 = 0xf0

    /// `nft` reads back no longer comments.
    package static let maxComment = 127
}
