// Who runs where, as the API server's pods say.
import CertificateAuthority
import FakeAPIServer
import KubernetesClient
import TestSupport
import Testing

@testable import Controller

@Suite struct PodWatchTests {
    private let who = WhoMayAsk(trustDomain: "td", audiences: ["a"], nodeAccounts: [])

    /// nil: a pod of the account may ask for itself.
    private func refusal(_ watch: PodWatch, _ pod: String, _ account: String, uid: String? = nil) -> Refusal.Reason? {
        let token = TokenFacts(
            isAuthenticated: true, audiences: ["a"], userName: "system:serviceaccount:shop:\(account)", podName: pod,
            podUID: uid ?? "uid-of-\(pod)")
        do throws(Refusal) {
            _ = try watch.decide(who, token, asked: [])
            return nil
        } catch {
            return error.reason
        }
    }

    @Test func podsAreKnownAsTheyComeAndGo() async throws {
        let server = try await FakeAPIServer()
        server.put(
            .pods, pod("web-0", namespace: "shop", on: "node-1", as: "web"),
            pod("job-0", namespace: "shop", on: "node-1", as: "job", phase: "Succeeded"),
            pod("waits-0", namespace: "shop", on: "", as: "web"))
        let directory = try TemporaryDirectory()
        try writeText(server.kubeconfig(), to: directory.path + "/kubeconfig")
        let watch = PodWatch(try ClusterAccess.kubeconfig(path: directory.path + "/kubeconfig"))
        #expect(refusal(watch, "web-0", "web") == .notReady)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await watch.run() }
            try await soon("the pods are listed") { watch.isComplete }
            #expect(watch.count == 2)
            #expect(refusal(watch, "web-0", "web") == nil)
            #expect(refusal(watch, "web-0", "other") == .podIsAnother)
            #expect(refusal(watch, "web-0", "web", uid: "an earlier one") == .podUnknown)
            #expect(refusal(watch, "job-0", "job") == .podIsAnother)
            #expect(refusal(watch, "waits-0", "web") == .podUnknown)

            server.put(.pods, pod("waits-0", namespace: "shop", on: "node-2", as: "web"))
            try await soon("it is placed") { refusal(watch, "waits-0", "web") == nil }
            server.delete(.pods, "shop", "web-0")
            try await soon("it is gone") { refusal(watch, "web-0", "web") == .podUnknown }
            // What a watch does not tell, the next list does.
            server.deleteSilently(.pods, "shop", "waits-0")
            server.endWatches(.pods)
            try await soon("that one, too") { watch.count == 1 }
            #expect(watch.isComplete && watch.status.map(\.resource) == ["all pods"])
            group.cancelAll()
        }
        await server.stop()
    }
}
