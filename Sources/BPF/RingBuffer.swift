/// Reads what programs put into a ring buffer map. Records come in order; there must be one reader only.
import CLibbpf
import Glibc

package final class RingBuffer<Record: BitwiseCopyable> {
    private let raw: OpaquePointer
    private let name: String
    private let sink = RecordSink()

    package init(_ map: BPFDescriptor, name: String) throws(BPFError) {
        let take: ring_buffer_sample_fn = { context, record, size in
            guard let context, let record else { return 0 }
            let sink = Unmanaged<RecordSink>.fromOpaque(context).takeUnretainedValue()
            sink.take(UnsafeRawBufferPointer(start: record, count: Int(size)))
            return 0
        }
        guard let raw = ring_buffer__new(map.fd, take, Unmanaged.passUnretained(sink).toOpaque(), nil) else {
            throw BPFError("map ring buffer \(name)", errno)
        }
        self.raw = raw
        self.name = name
    }
    deinit { ring_buffer__free(raw) }

    /// Hands over what there is; does not wait.
    package func drain(_ body: (Record) -> Void) throws(BPFError) {
        let result = withoutActuallyEscaping(body) { body in
            sink.take = { bytes in
                guard bytes.count >= MemoryLayout<Record>.size else { return }
                body(bytes.loadUnaligned(as: Record.self))
            }
            defer { sink.take = { _ in } }
            return ring_buffer__consume(raw)
        }
        guard result >= 0 else { throw BPFError("read ring buffer \(name)", -result) }
    }
}

private final class RecordSink {
    var take: (UnsafeRawBufferPointer) -> Void = { _ in }
}
