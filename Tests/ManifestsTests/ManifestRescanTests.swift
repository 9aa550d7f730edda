// What an idle agent does with its files: counted, whatever their number.
import Glibc
import TestSupport
import Testing

@testable import Manifests

@Suite struct ManifestRescanTests {
    /// `count` files, what they are now, and the time long after they were written.
    private func withFiles(
        _ count: Int, _ body: (ManifestDirectory, [String: ManifestDirectory.Signature], Int) throws -> Void
    ) throws {
        let files = try TemporaryDirectory()
        defer { withExtendedLifetime(files) {} }
        for number in 0..<count { try write("\(files.path)/f\(number).yaml", "") }
        let directory = ManifestDirectory(path: files.path, maximumBytes: 1000)
        var read: [String: ManifestDirectory.Signature] = [:]
        for name in try #require(directory.list()).names { read[name] = directory.status(name)?.signature }
        #expect(read.count == count)
        try body(directory, read, time(nil) + 1000)
    }
    private func look(
        _ rescan: inout ManifestRescan, _ directory: ManifestDirectory,
        _ read: [String: ManifestDirectory.Signature], _ now: Int
    ) throws -> ManifestRescan.Finding {
        let found = rescan.look(at: directory, known: read.keys, links: [], read: read, everything: false, now: now)
        return try #require(found)
    }
    private func write(_ path: String, _ text: String) throws {
        try writeInPlace(text, to: path, flags: O_WRONLY | O_CREAT | O_TRUNC)
    }

    /// Two looks a minute: at most 1024 files, and the directory is not listed.
    @Test func ofUnchangedFilesSomeAreLookedAtAndNoneIsRead() throws {
        try withFiles(2500) { directory, read, now in
            var rescan = ManifestRescan()
            var looks: [Int] = []
            for number in 0..<6 {
                let found = try look(&rescan, directory, read, now)
                #expect(found.changed == [])
                #expect((found.unreadableNames != nil) == (number == 0), "the directory was listed")
                looks.append(found.looks)
            }
            #expect(looks == [512, 512, 512, 512, 452, 512])
        }
    }

    @Test func whatChangedIsFoundWithinARound() throws {
        try withFiles(2500) { directory, read, now in
            var rescan = ManifestRescan()
            let look = { try self.look(&rescan, directory, read, now) }
            _ = try look()
            try write("\(directory.path)/f2211.yaml", "more")
            var changed: [String] = []
            for _ in 0..<5 { changed += try look().changed }
            #expect(changed == ["f2211.yaml"])
        }
    }

    /// The directory says so itself: they are found by the next look, however many files there are.
    @Test func namesThatComeAreFoundAtOnceAndThoseThatGoWithinARound() throws {
        try withFiles(2500) { directory, read, now in
            var rescan = ManifestRescan()
            let look = { try self.look(&rescan, directory, read, now) }
            for _ in 0..<5 { #expect(try look().changed == []) }
            try write("\(directory.path)/new.yaml", "")
            #expect(try look().changed.contains("new.yaml"))
            unlink("\(directory.path)/f17.yaml")
            var changed: [String] = []
            for _ in 0..<5 { changed += try look().changed }
            #expect(changed.contains("f17.yaml"))
        }
    }

    /// Nothing tells of what they lead to.
    @Test func symbolicLinksAreLookedAtEachTime() throws {
        try withFiles(2500) { directory, read, now in
            var rescan = ManifestRescan()
            let links: Set = ["f1.yaml", "f2211.yaml"]
            var looks: [Int] = []
            for number in 0..<6 {
                if number == 2 { try write("\(directory.path)/f2211.yaml", "more") }
                let found = rescan.look(
                    at: directory, known: read.keys, links: links, read: read, everything: false, now: now)
                looks.append(try #require(found).looks)
                #expect(found?.changed == (number < 2 ? [] : ["f2211.yaml"]))
            }
            #expect(looks.allSatisfy { $0 >= 452 && $0 <= 514 })
        }
    }

    @Test func oneThatIsBeingWrittenIsLeftToTheNextTime() throws {
        try withFiles(3) { directory, read, now in
            var rescan = ManifestRescan()
            let look = { try self.look(&rescan, directory, read, $0) }
            #expect(try look(now).changed == [])
            try write("\(directory.path)/new.yaml", "")
            #expect(try look(Int(time(nil))).changed == [])
            #expect(try look(now).changed == ["new.yaml"])
        }
    }

    @Test func whereTheKernelTellsNothingEverythingIsLookedAt() throws {
        try withFiles(2500) { directory, read, now in
            var rescan = ManifestRescan()
            for _ in 0..<2 {
                let found = rescan.look(
                    at: directory, known: read.keys, links: [], read: read, everything: true, now: now)
                #expect(found?.looks == 2500)
            }
        }
    }
}
