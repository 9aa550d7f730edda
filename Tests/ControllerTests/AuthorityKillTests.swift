/// The leader is killed before every single write of the life of an authority, and another goes on: nothing is lost,
/// and no leaf is disbelieved by whoever reads the ConfigMap.
import AdminAPI
import FakeAPIServer
import Signing
import Synchronization
import TestSupport
import Testing

@testable import Controller

@Suite(.serialized) struct AuthorityKillTests {
    @Test func theNextLeaderGoesOnFromEveryWrite() async throws {
        var writes = 0
        var isInterrupted = true
        while isInterrupted {
            let life = try await Life()
            isInterrupted = try await life.run(killBeforeWrite: writes)
            await life.cluster.end()
            writes += 1
        }
        // Root, intermediate, and another root with all that belongs to it.
        #expect(writes > 10, "fewer writes than there are steps")
    }

    private final class Life: Sendable {
        let cluster: AuthorityCluster
        private let leaves = Mutex<[(leaf: String, signer: Signer, end: Int)]>([])

        init() async throws { cluster = try await AuthorityCluster() }

        /// Whether the leader was killed before its life was over.
        func run(killBeforeWrite number: Int) async throws -> Bool {
            let seen = Mutex(0)
            cluster.server.hold { request in
                guard request.method == "PATCH" else { return false }
                return seen.withLock { count in
                    count += 1
                    return count > number
                }
            }
            var step = 0
            try await cluster.replica { keeper in
                while step < Self.steps.count, try await take(step, keeper) { step += 1 }
            }
            guard step < Self.steps.count else { return false }
            cluster.server.release()
            try await cluster.replica { keeper in
                for step in step..<Self.steps.count {
                    let isDone = try await take(step, keeper)
                    #expect(isDone, "step \(step) after a kill before write \(number)")
                }
            }
            return true
        }

        private struct Step: Sendable {
            let name: String
            var begin: @Sendable (Life, AuthorityKeeper) -> Void = { _, _ in }
            let isDone: @Sendable (Life, Signer) -> Bool
        }
        private static let steps = [
            Step(name: "the first root") { life, _ in life.cluster.published.count == 1 },
            Step(
                name: "both roots",
                begin: { life, keeper in
                    if life.cluster.published.count == 1, keeper.report.nextRoot == nil { _ = keeper.renewRoot() }
                },
                isDone: { life, _ in life.cluster.published.count == 2 }),
            Step(name: "the next root signs") { life, signer in
                // Whoever leads waits anew.
                life.cluster.pass(900)
                return signer.root == life.cluster.newest && life.cluster.secret.count == 6
            },
            Step(name: "the old root is forgotten") { life, _ in
                life.cluster.pass(6000)
                return life.cluster.published.count == 1 && life.cluster.secret.count == 5
            },
        ]

        /// False: the leader was held up.
        private func take(_ number: Int, _ keeper: AuthorityKeeper) async throws -> Bool {
            let step = Self.steps[number]
            try await soon("it has looked") { keeper.signer != nil || cluster.server.held > 0 }
            step.begin(self, keeper)
            try await soon(step.name) {
                try look(keeper)
                return cluster.server.held > 0 || keeper.signer.map { step.isDone(self, $0) } == true
            }
            return cluster.server.held == 0
        }

        /// Every leaf that lives, under whichever root, is believed.
        private func look(_ keeper: AuthorityKeeper) throws {
            let (now, roots) = (cluster.now, cluster.roots)
            guard let signer = keeper.signer, !roots.isEmpty else { return }
            try leaves.withLock { leaves in
                leaves.removeAll { $0.end <= now }
                if leaves.last?.signer.root != signer.root || leaves.count < 3 {
                    leaves.append((try signer.leaf(at: now), signer, try #require(signer.leafEnd(now: now))))
                }
                for leaf in leaves { #expect(leaf.signer.problem(of: leaf.leaf, roots, at: now) == nil) }
            }
        }
    }
}

extension AuthorityCluster {
    /// The last of those that are published.
    fileprivate var newest: String? { try? certificates(inPEM: roots).last?.pem }
}
