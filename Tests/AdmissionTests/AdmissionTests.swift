/// What the webhook says: refused is what can never work, told is the rest, and nobody is kept from mending.
import Cluster
import Compile
import PullJSON
import Testing

@testable import Admission
@testable import Validation

private let bad = regexRule("/(a")
private let alsoBad = regexRule("/[b")

@Suite struct AdmissionTests {
    @Test func aGoodRoutePasses() throws {
        let reply = try ask(review(routeJSON(goodRule)))
        #expect(reply.allowed && reply.warnings.isEmpty)
    }

    @Test func whatCanNeverWorkIsRefused() throws {
        let reply = try ask(review(routeJSON(bad)))
        #expect(!reply.allowed && reply.code == 422 && reply.reason == "Invalid")
        #expect(reply.message.hasPrefix("HTTPRoute shop/web: spec.rules[0].matches[0]: never matches"))
        #expect(reply.message.hasSuffix("(invalid-regex)") && reply.warnings.isEmpty)
    }

    /// What another object may bring is a warning, though it is an error as long as that one is away.
    @Test func whatMayComeYetIsTold() throws {
        let rule = #"{"backendRefs":[{"name":"later","port":80}]}"#
        let reply = try ask(review(routeJSON(rule)))
        #expect(reply.allowed && reply.warnings.count == 1)
        #expect(reply.warnings[0].hasPrefix("HTTPRoute shop/web: spec.rules[0].backendRefs[0]: Service shop/later"))
        #expect(reply.warnings[0].hasSuffix("(invalid-backend)"))
        let none = try ask(review(routeJSON(#"{"backendRefs":[{"name":"v1","port":80,"weight":0}]}"#)))
        #expect(none.allowed && none.warnings.map { $0.hasSuffix("(no-weight)") } == [true])
    }

    /// And warnings stand beside a refusal.
    @Test func bothAreTold() throws {
        let reply = try ask(review(routeJSON(bad + #","# + #"{"backendRefs":[{"name":"later","port":80}]}"#)))
        #expect(!reply.allowed && reply.message.contains("invalid-regex") && reply.warnings.count == 1)
    }

    @Test func whatItDoesToOthersIsTold() throws {
        let old = try decoded(
            .httpRoute, routeJSON(goodRule, name: "z", metadata: #","creationTimestamp":"2026-02-01T00:00:00Z""#))
        let new = routeJSON(goodRule, metadata: #","creationTimestamp":"2026-01-01T00:00:00Z""#)
        let reply = try ask(review(new), cluster([old]))
        #expect(reply.allowed && reply.warnings.count == 1)
        #expect(reply.warnings[0].hasPrefix("HTTPRoute shop/z: ") && reply.warnings[0].contains("route-conflict"))
        // What was wrong with others before is not its doing.
        let young = routeJSON(goodRule, name: "zz", metadata: #","creationTimestamp":"2026-03-01T00:00:00Z""#)
        let again = try ask(review(young), cluster([try decoded(.httpRoute, new), old]))
        #expect(again.warnings.allSatisfy { $0.hasPrefix("HTTPRoute shop/zz: ") } && again.warnings.count == 1)
    }

    // MARK: Changes

    @Test func anOldFaultDoesNotKeepAnybodyFromChanges() throws {
        // The same, with other labels; elsewhere in the object; one of two mended.
        for (old, new) in [
            (bad, bad), (bad, goodRule + "," + bad), (bad + "," + alsoBad, alsoBad), (bad + "," + bad, bad),
        ] {
            let reply = try ask(review(routeJSON(new, metadata: #","labels":{"a":"b"}"#), old: routeJSON(old)))
            #expect(reply.allowed)
            #expect(reply.warnings.contains { $0.contains("invalid-regex") }, "it is still told")
        }
    }
    @Test func aNewFaultIsRefusedBesideAnOldOne() throws {
        for (old, new) in [(goodRule, bad), (bad, alsoBad), (bad, bad + "," + alsoBad), (bad, bad + "," + bad)] {
            let reply = try ask(review(routeJSON(new), old: routeJSON(old)))
            #expect(!reply.allowed, "\(old) -> \(new)")
        }
        let both = try ask(review(routeJSON(bad + "," + alsoBad), old: routeJSON(bad)))
        #expect(both.message.contains("/[b") && !both.message.contains("/(a") && both.warnings.count == 1)
    }
    /// What could not be read told only its first fault: the next comes up when that is mended.
    @Test func whatCouldNotBeReadBeforeIsNeverRefused() throws {
        let unreadable = routeJSON(#"{"backendRefs":[{"name":"v1","port":0}]}"#)
        let first = try ask(review(unreadable))
        #expect(!first.allowed && first.message.contains("(undecodable)") && first.message.contains("port"))
        let otherwise = routeJSON(#"{"backendRefs":[{"name":"v1","port":80,"weight":-1}]}"#)
        for new in [unreadable, otherwise, routeJSON(bad)] {
            let reply = try ask(review(new, old: unreadable))
            #expect(reply.allowed && reply.warnings.count == 1)
        }
        #expect(try ask(review(routeJSON(goodRule), old: unreadable)).warnings.isEmpty)
    }

    /// With a CREATE there is no old object, whatever stands in the request.
    @Test func aCreationIsNotExcused() throws {
        #expect(try !ask(review(routeJSON(bad), old: routeJSON(bad), operation: "CREATE")).allowed)
    }

    @Test func deletingIsAlwaysAllowed() throws {
        let going = #","deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":[]"#
        let texts = [
            review("null", old: routeJSON(bad), operation: "DELETE"), review(routeJSON(bad), operation: "DELETE"),
            review(routeJSON(bad, metadata: going), old: routeJSON(goodRule)),
            review(routeJSON("7", metadata: going), old: routeJSON("7")),
            review(routeJSON(bad), operation: "CONNECT"),
        ]
        for text in texts {
            let reply = try ask(text)
            #expect(reply.allowed && reply.warnings.isEmpty)
        }
        // Which a null is not.
        #expect(try !ask(review(routeJSON(bad, metadata: #","deletionTimestamp":null"#))).allowed)
    }

    // MARK: Somebody else's

    @Test func routesOfGatewaysAreSomebodyElses() throws {
        let gateway = #"{"name":"edge"}"#
        for rules in [bad, "7", #"{"backendRefs":[{"name":"v1","port":0}]}"#] {
            let reply = try ask(review(routeJSON(rules, parent: gateway)))
            #expect(reply.allowed && reply.warnings.isEmpty)
        }
        // With a Service beside it the rules are ours, too.
        let both = gateway + #",{"group":"","kind":"Service","name":"web"}"#
        #expect(try !ask(review(routeJSON(bad, parent: both))).allowed)
    }
    @Test func otherKindsAndSubresourcesPass() throws {
        let deployment = #"{"group":"apps","version":"v1","kind":"Deployment"}"#
        let knative = #"{"group":"serving.knative.dev","version":"v1","kind":"Service"}"#
        for text in [
            review(#"{"metadata":{}}"#, kind: deployment), review(#"{"spec":7}"#, kind: knative),
            review(routeJSON(bad), more: #","subResource":"status""#),
        ] {
            let reply = try ask(text)
            #expect(reply.allowed && reply.warnings.isEmpty)
        }
        #expect(try !ask(review(routeJSON(bad), more: #","subResource":"""#)).allowed)
    }
    @Test func servicesOfAnotherProxyAreSomebodyElses() throws {
        let wrong = #","appProtocol2":1,"externalIPs":["169.254.0.1"]"#
        let label = #","labels":{"service.kubernetes.io/service-proxy-name":"other"}"#
        let ours = review(serviceJSON("web", spec: wrong), kind: service)
        let theirs = review(serviceJSON("web", metadata: label, spec: wrong), kind: service)
        #expect(try ask(ours).warnings.map { $0.hasSuffix("(unservable-address)") } == [true])
        #expect(try ask(theirs).warnings.isEmpty)
        let answer = AdmissionAnswer(
            to: Array(theirs.utf8), against: try cluster(), options: CompilerOptions(proxyName: "other"))
        #expect(answer.outcome == .allowed(warnings: 1))
    }

    @Test func aServiceWithoutAnAddressYetGetsOne() throws {
        let fresh = #"{"metadata":{"name":"web","namespace":"shop"},"spec":{"ports":[{"name":"http","port":80}]}}"#
        let set = try cluster([try decoded(.httpRoute, routeJSON(goodRule))])
        #expect(try ask(review(fresh, kind: service), set).warnings.isEmpty)
        let headless = fresh.replacing(#""spec":{"#, with: #""spec":{"clusterIP":"None","#)
        let reply = try ask(review(headless, kind: service), set)
        #expect(reply.allowed && reply.warnings.contains { $0.hasSuffix("(no-cluster-ip)") })
    }

    /// `generateName`: the name may not be made yet.
    @Test func anObjectWithoutANameIsJudged() throws {
        #expect(try ask(review(routeJSON(goodRule, name: nil))).warnings.isEmpty)
        let reply = try ask(review(routeJSON(bad, name: nil)))
        #expect(!reply.allowed && reply.message.contains("invalid-regex"))
    }

    @Test func aDryRunIsJudgedAlike() throws {
        let text = review(routeJSON(bad)).replacing(#""dryRun":false"#, with: #""dryRun":true"#)
        #expect(try !ask(text).allowed)
        #expect(try AdmissionRequest(reading: Array(text.utf8)).isDryRun)
    }
}
