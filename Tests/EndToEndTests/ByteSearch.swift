/// Markers in packets and in memory.
import Glibc

/// Where the first of them begins. By the C library: a test build would look at a megabyte for seconds.
func offset(of marker: [UInt8], in bytes: UnsafeRawBufferPointer, from start: Int = 0) -> Int? {
    guard let first = marker.first, let base = bytes.baseAddress else { return nil }
    var at = start
    while at + marker.count <= bytes.count, let found = memchr(base + at, Int32(first), bytes.count - at) {
        at = UnsafeRawPointer(found) - base
        if bytes.count - at >= marker.count, memcmp(found, marker, marker.count) == 0 { return at }
        at += 1
    }
    return nil
}
