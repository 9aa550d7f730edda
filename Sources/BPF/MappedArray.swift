/// An array map in this process's memory. Storing to it is programming the kernel: no system call, and an aligned
/// 8-byte store is atomic for the programs that read it.
import Glibc

package final class MappedArray<Element: BitwiseCopyable> {
    package let map: BPFMap<UInt32, Element>
    package let count: Int
    private let base: UnsafeMutableRawPointer
    private let byteCount: Int
    /// Bytes at the front that are mapped. The rest is only reserved: mapped pages count as this process's memory, so
    /// they are mapped when first touched.
    private var mapped = 0
    private let chunk = 1 << 20

    package init(_ map: BPFMap<UInt32, Element>) throws(BPFError) {
        self.map = map
        count = map.maxEntries
        let page = Int(getpagesize())
        byteCount = (count * MemoryLayout<Element>.stride + page - 1) / page * page
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let base = mmap(nil, byteCount, PROT_NONE, flags, -1, 0), base != MAP_FAILED else {
            throw BPFError("reserve memory for map \(map.name)", errno)
        }
        self.base = base
    }
    deinit { munmap(base, byteCount) }

    /// The elements at 0..<`count`, mapped. Valid as long as this object.
    package func elements(upTo count: Int) throws(BPFError) -> UnsafeMutablePointer<Element> {
        precondition(count <= self.count, "an index beyond the map")
        let needed = count * MemoryLayout<Element>.stride
        while mapped < needed {
            let size = min(chunk, byteCount - mapped)
            let at = mmap(
                base + mapped, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, map.descriptor.fd, off_t(mapped))
            guard at != MAP_FAILED else { throw BPFError("map \(map.name) into memory", errno) }
            mapped += size
        }
        return base.assumingMemoryBound(to: Element.self)
    }
}
