/// Fail static: what the file of the last good state survives, and what the agent does with it.
import AdminAPI
import Addressing
import Cluster
import Compile
import DataplaneIR
import Glibc
import Logging
import Synchronization
import TestSupport
import Testing

@testable import Agent

@Suite struct SnapshotTests {
    private let header = SnapshotHeader(node: "node-a", source: "https://api", writtenAt: 1000)

    private func bytes(_ objects: [ClusterObject], _ header: SnapshotHeader? = nil) -> [UInt8] {
        var result: [UInt8] = []
        SnapshotFormat.write(header ?? self.header, objects) { result += $0 }
        return result
    }
    private func read(_ bytes: [UInt8]) throws(SnapshotError) -> Snapshot {
        try SnapshotFormat.read(bytes, node: "node-a", source: "https://api")
    }

    @Test func everythingComesBack() throws {
        var random = SeededGenerator()
        var cluster = RandomCluster()
        var state = ClusterState()
        for _ in 0..<200 { _ = state.apply(cluster.edit(using: &random)) }
        var node = Node(name: "node-a")
        node.nodeIPs = [IPAddress(v4: 0xc0a8_0001)]
        node.podCIDRs = [IPPrefix("fd00:1::/64")].compactMap { $0 }
        _ = state.apply(.upsert(.node(node)))
        let objects = state.objects
        #expect(objects.count > 10)
        #expect(try read(bytes(objects)) == Snapshot(header: header, objects: objects))
    }

    @Test func aTornOrChangedFileIsRefusedWherever() throws {
        let good = bytes([webService(), webSlice(1, 2)])
        for length in 0..<good.count {
            #expect(throws: SnapshotError.self, "cut after \(length) bytes") { try read(Array(good[..<length])) }
        }
        for index in good.indices {
            var bad = good
            bad[index] ^= 1
            #expect(throws: SnapshotError.self, "byte \(index) changed") { try read(bad) }
        }
    }

    @Test func aForeignFileIsRefusedWithTheReason() {
        func reason(_ edit: (inout SnapshotHeader) -> Void) -> String? {
            var header = header
            edit(&header)
            do { _ = try read(bytes([webService()], header)) } catch { return error.description }
            return nil
        }
        #expect(reason { _ in } == nil)
        #expect(reason { $0.version = 2 }?.contains("version 2") == true)
        #expect(reason { $0.node = "node-b" }?.contains("node-b") == true)
        #expect(reason { $0.source = "https://other" }?.contains("https://other") == true)
        #expect(throws: SnapshotError("it is not a snapshot of Heddle")) { try read(Array("#!/bin/sh\n".utf8)) }
    }

    /// The checksum is there for accidents; what is below it must not be trusted all the same.
    @Test func strangeContentsUnderARightChecksumNeverTrap() {
        var random = SeededGenerator()
        let good = bytes([webService { $0.affinitySeconds = 10 }, webSlice(1), .node(Node(name: "node-a"))])
        let body = Array(good[...(good.dropLast().lastIndex(of: UInt8(ascii: "\n")) ?? 0)])
        var used = 0
        for _ in 0..<1000 {
            let strange = strange(body, using: &random)
            var checksum = CRC32()
            checksum.add(strange)
            let count = strange.split(separator: UInt8(ascii: "\n")).count - 1
            guard let snapshot = try? read(strange + Array("end \(count) \(checksum.value)\n".utf8)) else { continue }
            used += 1
            var state = ClusterState()
            for object in snapshot.objects { _ = state.apply(.upsert(object)) }
            var compiler = Compiler(node: NodeFacts(name: "node-a"))
            _ = compiler.update(state.knownServices, from: state)
        }
        #expect(used > 20)
    }

    private func strange(_ body: [UInt8], using random: inout SeededGenerator) -> [UInt8] {
        var result = body
        let start = Int.random(in: 0..<body.count, using: &random)
        let end = min(start + Int.random(in: 0...8, using: &random), body.count)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: result[start] = UInt8.random(in: 0x20...0x7e, using: &random)
        case 1: result.removeSubrange(start..<end)
        case 2: result.insert(contentsOf: body[start..<end], at: start)
        default:
            // A number where a number was, most often.
            let token = ["-1", "0", "300", "99999999999", "1e400", "null", "\"\"", "[]", "{}"].randomElement(
                using: &random)
            let digits = result.indices.filter { (0x30...0x39).contains(result[$0]) }
            let at = digits.randomElement(using: &random) ?? start
            result.replaceSubrange(at...at, with: Array((token ?? "").utf8))
        }
        return result
    }

    @Test func theFileIsReplacedAsAWhole() throws {
        let directory = try TemporaryDirectory()
        let file = SnapshotFile(directory: directory.path, node: "node-a", source: "https://api")
        #expect(try file.read() == nil)
        try file.write([webService()], at: 1)
        try file.write([webService(), webSlice(1)], at: 2)
        #expect(try file.read()?.objects.count == 2)
        #expect(file.writtenAt == 2)
        #expect(SnapshotFile(directory: directory.path, node: "node-b", source: "https://api").writtenAt == nil)
        #expect(directoryEntries(directory.path) == ["last-good.snapshot"])
        // What a crash leaves in the middle of writing.
        try writeText("heddle-snapshot {", to: file.path + ".new")
        #expect(try file.read()?.objects.count == 2)
    }

    @Test func aStateDirectoryThatCannotBeWrittenIsToldAndForgottenOnceItCan() async throws {
        let parent = try TemporaryDirectory()
        var configuration = AgentConfiguration(nodeName: "node-a")
        configuration.stateDirectory = parent.path + "/state"
        let snapshots = try Snapshots(configuration, source: "https://api", log: Logger(label: "test"))
        await withTaskGroup { group in
            group.addTask { await snapshots.run() }
            snapshots.access.save?(ClusterState())
            try? await soon("told") { snapshots.access.problem()?.contains("last-good.snapshot") == true }
            mkdir(configuration.stateDirectory, 0o700)
            snapshots.access.save?(ClusterState())
            try? await soon("forgotten") { snapshots.access.problem() == nil }
            await snapshots.flush()
        }
        #expect(snapshots.access.writtenAt() != nil)
    }

    @Test func aSnapshotThatCannotBeWrittenIsAWarning() async throws {
        var access = SnapshotAccess()
        access.problem = { "the snapshot could not be written" }
        try await AgentRig.run(snapshot: access) { rig in
            try await soon("told") { rig.board.status.warnings.contains("the snapshot could not be written") }
        }
    }

    // MARK: The agent

    private func access(
        _ objects: [ClusterObject], kernelHoldsServices: Bool = false, saved: SavedStates? = nil
    ) -> SnapshotAccess {
        var access = SnapshotAccess()
        let header = header
        access.load = { () throws(SnapshotError) in Snapshot(header: header, objects: objects) }
        access.kernelHoldsServices = { kernelHoldsServices }
        access.writtenAt = { header.writtenAt }
        access.save = { saved?.add($0) }
        (access.patience, access.delay, access.interval) = (.milliseconds(1), .milliseconds(1), .milliseconds(1))
        return access
    }
    private func service(_ name: String, _ last: UInt32) -> ClusterObject {
        var service = Service(name: ObjectName("default", name))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0000 + last)]
        service.ports = [Service.Port(port: 443)]
        return .service(service)
    }

    private func names(_ rig: AgentRig) -> [String] { Set(rig.dataplane.programs.keys.map(\.service)).sorted() }

    @Test func withTheSourceAwayTheSnapshotIsInForceAndSaidWithItsAge() async throws {
        let old = access([webService(), webSlice(1), service("gone", 11)])
        try await AgentRig.run(snapshot: old) { rig in
            try await soon("programmed") { names(rig).count == 2 }
            try await soon("said") { rig.board.status.snapshot?.contains("3 objects") == true }
            #expect(!rig.board.status.ready && !rig.board.status.sync.inSync)
            try await soon("its age is told") { rig.board.status.snapshotSecondsAgo ?? 0 > 1000 }
            // The source is back. One of the services went meanwhile.
            rig.send(webService(), webSlice(1, 2))
            rig.synced()
            try await rig.inSync()
            #expect(names(rig) == ["web"])
            #expect(rig.board.status.snapshot == nil)
        }
    }

    @Test func whatTheKernelHoldsIsNewerThanTheSnapshot() async throws {
        try await AgentRig.run(snapshot: access([webService()], kernelHoldsServices: true)) { rig in
            try await soon("told") { rig.board.status.snapshot?.contains("stays in force") == true }
            #expect(names(rig).isEmpty)
            #expect(rig.board.status.snapshotSecondsAgo ?? 0 > 1000)
        }
    }

    @Test func anEmptyListAfterASnapshotLeavesTheWayToTheAPIServer() async throws {
        try await AgentRig.run(snapshot: access([service("kubernetes", 1), service("other", 2)])) { rig in
            try await soon("programmed") { names(rig).count == 2 }
            rig.synced()
            try await rig.inSync()
            #expect(names(rig) == ["kubernetes"])
        }
    }

    @Test func aSnapshotDoesNotUndoWhatTheSourceHasToldAlready() async throws {
        var access = access([webService(), webSlice(9)])
        access.patience = .milliseconds(50)
        try await AgentRig.run(snapshot: access) { rig in
            rig.send(webSlice(1))
            try await soon("in force") { rig.board.status.snapshot?.contains("in force") == true }
            let answer = try await rig.ask(EndpointList.self, .endpoints(ObjectName("default", "web")))
            #expect(answer.endpoints.map(\.address) == ["10.1.0.1:8080"])
        }
    }

    @Test func changesAreSavedOnceTheSourceIsComplete() async throws {
        let saved = SavedStates()
        try await AgentRig.run(snapshot: access([], kernelHoldsServices: true, saved: saved)) { rig in
            rig.send(webService())
            rig.synced()
            try await soon("saved") { saved.last?.services.count == 1 }
            rig.send(service("more", 12))
            try await soon("saved again") { saved.last?.services.count == 2 }
        }
    }
}

/// The states the agent wanted saved.
final class SavedStates: Sendable {
    private let states = Mutex<[ClusterState]>([])
    var last: ClusterState? { states.withLock { $0.last } }
    func add(_ state: ClusterState) { states.withLock { $0.append(state) } }
}
