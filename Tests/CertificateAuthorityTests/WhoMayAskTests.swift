/// l7-behaviour §3.7: an account gets its own identity, the proxy of a node those beside it, and nobody anything else.
import Testing
import TestSupport

@testable import CertificateAuthority

private func account(_ namespace: String, _ name: String) throws -> ServiceAccount {
    try #require(ServiceAccount(namespace: namespace, name: name))
}

/// Two nodes, each with a proxy; `shop/web` runs on `n1` alone.
private struct Cluster {
    var pods = PodView()
    let policy: WhoMayAsk

    init() throws {
        policy = WhoMayAsk(
            trustDomain: "cluster.local", audiences: ["istio-ca"], nodeAccounts: [try account("mesh", "proxy")])
        for node in ["n1", "n2"] {
            pods.set(
                PodFacts(namespace: "mesh", name: "p-\(node)", uid: "u-\(node)", serviceAccount: "proxy", node: node))
        }
        pods.set(PodFacts(namespace: "shop", name: "web-1", uid: "u-web", serviceAccount: "web", node: "n1"))
        pods.isComplete = true
    }

    func proxy(_ node: String) -> TokenFacts {
        TokenFacts(
            isAuthenticated: true, audiences: ["istio-ca"], userName: "system:serviceaccount:mesh:proxy",
            podName: "p-\(node)", podUID: "u-\(node)", nodeName: node)
    }
    let web = TokenFacts(
        isAuthenticated: true, audiences: ["istio-ca"], userName: "system:serviceaccount:shop:web", podName: "web-1",
        podUID: "u-web")

    func refusal(_ token: TokenFacts, _ asked: String...) -> Refusal? {
        do throws(Refusal) {
            _ = try policy.decide(token, asked: asked, pods: pods)
            return nil
        } catch { return error }
    }
}

private let webIdentity = "spiffe://cluster.local/ns/shop/sa/web"

@Suite struct WhoMayAskTests {
    @Test func aPodGetsItsOwnIdentityNamedOrNot() throws {
        let cluster = try Cluster()
        for asked in [[], [webIdentity], [webIdentity, webIdentity]] {
            let grant = try cluster.policy.decide(cluster.web, asked: asked, pods: cluster.pods)
            #expect(grant.identity.description == webIdentity && !grant.isImpersonation && grant.node == "n1")
        }
    }

    @Test func theProxyOfANodeGetsIdentitiesOfItsOwnNodeOnly() throws {
        let cluster = try Cluster()
        let grant = try cluster.policy.decide(cluster.proxy("n1"), asked: [webIdentity], pods: cluster.pods)
        #expect(grant.identity.description == webIdentity && grant.isImpersonation && grant.podUID == "u-n1")
        let refusal = try #require(cluster.refusal(cluster.proxy("n2"), webIdentity))
        #expect(refusal.reason == .notOnNode)
        #expect(refusal.sentence.contains("no pod of shop/web runs on that node"))
    }

    @Test func anIdentityGoesWithItsLastPodOnTheNode() throws {
        var cluster = try Cluster()
        cluster.pods.set(PodFacts(namespace: "shop", name: "web-2", uid: "u2", serviceAccount: "web", node: "n1"))
        cluster.pods.remove(namespace: "shop", name: "web-1")
        #expect(cluster.refusal(cluster.proxy("n1"), webIdentity) == nil)
        cluster.pods.set(
            PodFacts(namespace: "shop", name: "web-2", uid: "u2", serviceAccount: "web", node: "n1", hasEnded: true))
        #expect(cluster.refusal(cluster.proxy("n1"), webIdentity)?.reason == .notOnNode)
        cluster.pods.set(PodFacts(namespace: "shop", name: "web-2", uid: "u3", serviceAccount: "web", node: ""))
        #expect(cluster.refusal(cluster.proxy("n1"), webIdentity)?.reason == .notOnNode)
    }

    @Test func nobodyElseGetsAnothersIdentity() throws {
        let cluster = try Cluster()
        let other = "spiffe://cluster.local/ns/mesh/sa/proxy"
        #expect(cluster.refusal(cluster.web, other)?.reason == .mayNotImpersonate)
    }

    @Test func whatIsNotKnownIsRefused() throws {
        var cluster = try Cluster()
        func reason(_ change: (inout TokenFacts) -> Void) -> Refusal.Reason? {
            var token = cluster.proxy("n1")
            change(&token)
            return cluster.refusal(token, webIdentity)?.reason
        }
        #expect(reason { _ in } == nil)
        #expect(reason { $0.isAuthenticated = false } == .notAuthenticated)
        #expect(reason { $0.audiences = [] } == .wrongAudience)
        #expect(reason { $0.audiences = ["https://kubernetes.default.svc"] } == .wrongAudience)
        #expect(reason { $0.userName = "system:node:n1" } == .notAServiceAccount)
        #expect(reason { $0.userName = "system:serviceaccount:mesh:proxy:x" } == .notAServiceAccount)
        #expect(reason { $0.podName = nil } == .notBoundToAPod)
        #expect(reason { $0.podUID = "" } == .notBoundToAPod)
        #expect(reason { $0.podUID = "u-of-one-before" } == .podUnknown)
        #expect(reason { $0.podName = "p-n2" } == .podUnknown)
        #expect(reason { $0.nodeName = "n2" } == .podIsAnother)
        #expect(reason { $0.userName = "system:serviceaccount:mesh:other" } == .podIsAnother)
        cluster.pods.isComplete = false
        #expect(cluster.refusal(cluster.proxy("n1"), webIdentity)?.reason == .notReady)
    }

    @Test func aTrickNameIsNoIdentity() throws {
        let cluster = try Cluster()
        let tricks = [
            "", "spiffe://cluster.local", "spiffe://cluster.local/ns/shop/sa/web/",
            "SPIFFE://cluster.local/ns/shop/sa/web",
            "spiffe://Cluster.local/ns/shop/sa/web", "spiffe://cluster.local:443/ns/shop/sa/web",
            "spiffe://u@cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/web?x",
            "spiffe://cluster.local/ns/shop/sa/web#x", "spiffe://cluster.local/ns/shop/sa/we%62",
            "spiffe://cluster.local/ns/shop/../shop/sa/web", "spiffe://cluster.local/ns//sa/web",
            "spiffe://cluster.local/ns/shop/sa/..", "spiffe://cluster.local/ns/a.b/sa/web",
            "spiffe://cluster.local/sa/web/ns/shop", "spiffe://cluster.local/ns/shop/sa/web\u{0}",
            "spiffe://cluster.local/ns/shop/sa/wéb", "spiffe://other.local/ns/shop/sa/web", " " + webIdentity,
            webIdentity + "," + webIdentity, "spiffe://cluster.local/ns/shop/sa/" + String(repeating: "a", count: 254),
        ]
        for trick in tricks {
            let refusal = try #require(cluster.refusal(cluster.proxy("n1"), trick), "\(trick)")
            #expect(refusal.reason == .badIdentity, "\(trick)")
        }
        #expect(
            cluster.refusal(cluster.proxy("n1"), webIdentity, "spiffe://cluster.local/ns/mesh/sa/proxy")?.reason
                == .badIdentity)
    }

    @Test func whatAPeerSaysStaysOneShortLineOfTheLog() throws {
        let cluster = try Cluster()
        let refusal = try #require(
            cluster.refusal(cluster.web, "spiffe://x\n\u{1b}[31m\"" + String(repeating: "y", count: 100_000)))
        #expect(refusal.sentence.utf8.count < 400)
        #expect(refusal.sentence.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0 != "\u{1b}" })
    }

    /// Against a plain search through all pods, over random lives of pods.
    @Test func theViewSaysWhatASearchThroughAllPodsSays() throws {
        var random = SeededGenerator()
        var view = PodView()
        var pods: [String: PodFacts] = [:]
        for step in 0..<3000 {
            let name = "p\(Int.random(in: 0..<12, using: &random))"
            if Bool.random(using: &random) {
                let pod = PodFacts(
                    namespace: "a", name: name, uid: "\(step)",
                    serviceAccount: ["x", "y"].randomElement(using: &random)!,
                    node: ["", "n1", "n2"].randomElement(using: &random)!,
                    hasEnded: Int.random(in: 0..<4, using: &random) == 0)
                pods[name] = pod
                view.set(pod)
            } else {
                pods[name] = nil
                view.remove(namespace: "a", name: name)
            }
            for name in ["x", "y"] {
                for node in ["n1", "n2"] {
                    let runs = pods.values.contains { $0.serviceAccount == name && $0.node == node && !$0.hasEnded }
                    #expect(view.runs(try account("a", name), on: node) == runs)
                }
            }
        }
    }
}
