/// Typed maps against the kernel.
import CDataplaneABI
import Glibc
import TestSupport
import Testing

@testable import BPF

@Suite(.requiresKernel(.bpf)) struct BPFMapTests {
    private func make<K, V>(
        _ kind: BPFMapKind, _ count: Int, flags: BPFMapKind.Flags = [], _ key: K.Type, _ value: V.Type
    ) throws -> BPFMap<K, V> {
        let descriptor = try kind.make(
            keySize: MemoryLayout<K>.stride, valueSize: MemoryLayout<V>.stride, count: count, flags: flags)
        #expect(try BPFMapKind(of: descriptor) == kind)
        return try BPFMap(descriptor, name: "test")
    }

    @Test func singleEntries() throws {
        let map = try make(.hash, 16, heddle_address.self, UInt32.self)
        let key = heddle_address(high: 1, low: 2)
        #expect(try map.lookup(key) == nil)
        try map.update(key, 7)
        #expect(try map.lookup(key) == 7)
        try map.update(key, 8)
        #expect(try map.keys().map(\.low) == [2])
        #expect(try map.entries().map(\.value) == [8])
        try map.delete(key)
        try map.delete(key)
        #expect(try map.entries().isEmpty)
        #expect(try map.keys().isEmpty)
    }

    @Test func batches() throws {
        let map = try make(.hash, 20_000, UInt64.self, UInt64.self)
        let keys = Array(0..<10_000 as Range<UInt64>)
        var done = 0
        try map.update(batch: keys, keys.map { $0 * 2 }, written: &done)
        #expect(done == 10_000)
        for size in [1, 100, 1 << 16] {
            let entries = try map.entries(batch: size)
            #expect(entries.count == 10_000)
            #expect(entries.allSatisfy { $0.value == $0.key * 2 })
        }
        // Absent keys in between are passed over.
        try map.delete(3)
        try map.delete(batch: [1, 2, 3, 4, 50_000, 5], deleted: &done)
        #expect(try map.entries().count == 10_000 - 5)
        try map.delete(batch: keys, deleted: &done)
        #expect(try map.entries().isEmpty)
        try map.update(batch: [], [], written: &done)
        #expect(done == 0)
    }

    @Test func aFullMapSaysHowFarItGot() throws {
        let map = try make(.hash, 4, UInt64.self, UInt64.self)
        let keys = Array(0..<10 as Range<UInt64>)
        var done = 0
        let error = #expect(throws: BPFError.self) { try map.update(batch: keys, keys, written: &done) }
        #expect(error?.code == E2BIG)
        #expect(done == 4)
        #expect(try map.entries().count == 4)
    }

    @Test func aMapOfOtherSizesIsRefused() throws {
        let map = try make(.hash, 4, UInt64.self, UInt64.self)
        let error = #expect(throws: BPFError.self) {
            _ = try BPFMap<UInt32, UInt64>(map.descriptor, name: "test")
        }
        #expect(error?.description.contains("8-byte keys") == true)
    }

    @Test func aMappedArrayIsTheMap() throws {
        let map = try make(.array, 300_000, flags: .mappable, UInt32.self, heddle_backend.self)
        let array = try MappedArray(map)
        var backend = heddle_backend()
        for index in [0, 1, 32_767, 32_768, 299_999] as [UInt32] {
            backend.uid = index + 1
            try array.elements(upTo: Int(index) + 1)[Int(index)] = backend
            #expect(try map.lookup(index)?.uid == index + 1)
            backend.uid = 77
            try map.update(index, backend)
            #expect(try array.elements(upTo: Int(index) + 1)[Int(index)].uid == 77)
        }
        #expect(try map.lookup(2)?.uid == 0)
    }
}
