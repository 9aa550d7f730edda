/// Objects as JSON -> what is written to the status of a route (gateway spec A.2, A.7; l7 spec 1.10).
import Cluster
import PullJSON
import RouteStatus
import Testing

/// A cluster as an API server tells it.
struct Cluster {
    var book = RouteStatusBook()
    private var decoder: ObjectDecoder

    init() {
        var options = ObjectDecoder.Options()
        options.keepsRouteRecords = true
        decoder = ObjectDecoder(options: options)
        book.markSynced()
    }

    mutating func decode(_ kind: ObjectKind, _ json: String) throws -> ClusterObject {
        let bytes = Array(json.utf8)
        var reader = JSONReader(bytes.span)
        return try decoder.decode(kind, json: &reader)
    }
    @discardableResult mutating func put(_ kind: ObjectKind, _ json: String) throws -> Set<ObjectID> {
        book.apply([.upsert(try decode(kind, json))])
    }
    @discardableResult mutating func service(
        _ name: String = "web", port: String = #"{"name":"http","port":80}"#, more: String = ""
    ) throws -> Set<ObjectID> {
        try put(
            .service,
            #"{"metadata":{"name":"\#(name)","namespace":"shop"},"#
                + #""spec":{"clusterIPs":["10.96.0.1"],"ports":[\#(port)]\#(more)}}"#
        )
    }
    @discardableResult mutating func route(
        _ name: String = "r", kind: ObjectKind = .httpRoute, generation: Int = 3,
        parents: String = #"{"group":"","kind":"Service","name":"web"}"#,
        rules: String = #"{"backendRefs":[{"name":"web","port":80}]}"#, status: String = ""
    ) throws -> Set<ObjectID> {
        try put(
            kind,
            #"{"metadata":{"name":"\#(name)","namespace":"shop","resourceVersion":"7","#
                + #""generation":\#(generation)},"#
                + #""spec":{"parentRefs":[\#(parents)],"rules":[\#(rules)]},"status":{"parents":[\#(status)]}}"#)
    }
    func write(_ name: String = "r", kind: ObjectKind = .httpRoute, now: Int = 0) -> RouteStatusWrite? {
        book.write(for: ObjectID(kind, ObjectName("shop", name)), now: now)
    }
    func parents(_ name: String = "r", now: Int = 0) -> String? {
        write(name, now: now).map { String(decoding: $0.parents.dropFirst().dropLast(), as: UTF8.self) }
    }
}

@Suite struct GoldenTests {
    static let foreign = #"{ "controllerName":"example.com/x", "parentRef":{"name":"gw"},"conditions":[] }"#
    static let accepted =
        #"{"parentRef":{"group":"","kind":"Service","name":"web"},"controllerName":"heddle.io/mesh-controller","#
        + #""conditions":[{"type":"Accepted","status":"True","observedGeneration":3,"#
        + #""lastTransitionTime":"1970-01-01T00:00:00Z","reason":"Accepted","message":"attached to port 80 of Service "#
        + #"shop/web"},{"type":"ResolvedRefs","status":"True","observedGeneration":3,"lastTransitionTime":"#
        + #""1970-01-01T00:00:00Z","reason":"ResolvedRefs","message":"every backend that rules name is there"}]}"#

    @Test func anAcceptedRouteAndNothingToDoTheSecondTime() throws {
        var cluster = Cluster()
        try cluster.service()
        #expect(try cluster.route(status: Self.foreign).count == 1)
        let parents = try #require(cluster.parents())
        // Row A1: entries of others byte for byte, in order.
        #expect(parents == Self.foreign + "," + Self.accepted)
        #expect(try #require(cluster.write()).resourceVersion == "7")
        // Row A3.
        #expect(try cluster.route(status: parents).isEmpty && cluster.book.outstanding.isEmpty)
        #expect(cluster.parents(now: 99) == nil)
    }

    @Test func anOldCopyWritesNothing() throws {
        var cluster = Cluster()
        try cluster.service()
        try cluster.route(generation: 2, status: Self.accepted)
        #expect(cluster.parents() == nil)
        try cluster.route(generation: 4, status: Self.accepted)
        // Row A2, A3: a new generation, and the old time.
        let parents = try #require(cluster.parents(now: 99))
        #expect(parents == Self.accepted.replacing(#"tion":3"#, with: #"tion":4"#))
    }

    @Test func aParentThatIsNotThereHasNoEntry() throws {
        var cluster = Cluster()
        try cluster.route()
        #expect(cluster.parents() == nil)
        #expect(try cluster.service().count == 1)
        try cluster.route(status: Self.accepted + "," + Self.foreign)
        let changes = cluster.book.apply([.delete(ObjectID(.service, ObjectName("shop", "web")))])
        // Row A4.
        #expect(changes.count == 1 && cluster.parents() == Self.foreign)
    }

    @Test(arguments: [
        (#"{"name":"http","port":80}"#, #","port":81"#, "NoMatchingParent", "has no such TCP port"),
        (#"{"name":"tcp","port":80}"#, "", "NotAllowedByListeners", "no port of Service shop/web speaks HTTP"),
        (#"{"name":"tcp","port":80}"#, #","port":80"#, "NotAllowedByListeners", "does not speak HTTP by its name"),
    ])
    func refusedParents(port: String, reference: String, reason: String, message: String) throws {
        var cluster = Cluster()
        try cluster.service(port: port)
        try cluster.route(parents: #"{"group":"","kind":"Service","name":"web"\#(reference)}"#)
        let parents = try #require(cluster.parents())
        #expect(parents.contains(#""status":"False""#) && parents.contains(#""reason":"\#(reason)""#))
        #expect(parents.contains(message) && !parents.contains("PartiallyInvalid"))
    }

    @Test func theKindDecidesOnOnePort() throws {
        var cluster = Cluster()
        try cluster.service()
        try cluster.route(status: Self.accepted)
        // l7 spec 1.10: one change, and the loser hears of it.
        #expect(try cluster.route("calls", kind: .grpcRoute).count == 2)
        #expect(try #require(cluster.parents()).contains(#""reason":"Conflicted""#))
        #expect(cluster.write("calls", kind: .grpcRoute) != nil)
    }

    @Test(arguments: [
        (#"{"name":"gone","port":80}"#, "BackendNotFound"), (#"{"name":"web","port":9}"#, "BackendNotFound"),
        (#"{"group":"x","kind":"Bucket","name":"web"}"#, "InvalidKind"),
        (#"{"name":"gone","port":80},{"group":"x","kind":"Bucket","name":"b"}"#, "InvalidKind"),
        (#"{"name":"tls","port":443}"#, "UnsupportedProtocol"),
    ])
    func badReferencesAreNoBadRules(backends: String, reason: String) throws {
        var cluster = Cluster()
        try cluster.service()
        try cluster.service("tls", port: #"{"port":443,"appProtocol":"https"}"#)
        try cluster.route(rules: #"{"backendRefs":[\#(backends)]}"#)
        let parents = try #require(cluster.parents())
        // Row 53.
        #expect(parents.contains(#""type":"Accepted","status":"True""#) && parents.contains(#""reason":"\#(reason)""#))
        #expect(!parents.contains("PartiallyInvalid"))
    }

    @Test func droppedRules() throws {
        var cluster = Cluster()
        try cluster.service()
        let bad = #"{"matches":[{"path":{"type":"RegularExpression","value":"("}}]}"#
        try cluster.route(rules: bad + #",{"backendRefs":[{"name":"web","port":80}]}"#)
        let some = try #require(cluster.parents())
        // Row 54.
        #expect(some.contains(#""type":"Accepted","status":"True""#) && some.contains(#""message":"Dropped Rule 0: "#))
        try cluster.route(generation: 4, rules: bad, status: some)
        let all = try #require(cluster.parents(now: 60))
        #expect(all.contains(#""reason":"UnsupportedValue""#) && !all.contains("PartiallyInvalid"))
        #expect(all.contains(#""lastTransitionTime":"1970-01-01T00:01:00Z","reason":"UnsupportedValue""#))
    }

    @Test func aChangeCostsTheRoutesItTouches() throws {
        var cluster = Cluster()
        for number in 0..<200 {
            try cluster.service("s\(number)")
            try cluster.route(
                "r\(number)", parents: #"{"group":"","kind":"Service","name":"s\#(number)"}"#,
                rules: #"{"backendRefs":[{"name":"b\#(number % 100)","port":80}]}"#)
        }
        let before = cluster.book.judged
        #expect(try cluster.service("b5").count == 2 && cluster.book.judged == before + 2)
        #expect(try cluster.service("unrelated").isEmpty && cluster.book.judged == before + 2)
    }
}
