/// The source against an API server, or a network, in trouble. What was told must stay told, and it must go on by
/// itself.
import Cluster
import FakeAPIServer
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct TroubleTests {
    /// Runs `body` once the first sync is done and all watches run.
    private func afterSync(
        timing: KubernetesSource.Timing = .quick, prepare: @Sendable (FakeAPIServer) -> Void = { _ in },
        _ body: (FakeAPIServer, Recorder) async throws -> Void
    ) async throws {
        try await withSource(
            timing: timing,
            prepare: { server in
                server.fill()
                prepare(server)
            },
            { server, recorder in
                try await soon("synced") { recorder.now.synced == 1 }
                try await soon("watching") {
                    FakeResource.followed.allSatisfy { server.watchers($0) == 1 }
                }
                try await body(server, recorder)
            })
    }

    // MARK: Bytes

    @Test("An event of many chunks arrives whole, in pieces of any size", arguments: [1, 7, 4096])
    func joinsPieces(size: Int) async throws {
        try await afterSync { server, recorder in
            let addresses = (0..<1000).map { "10.2.\($0 / 250).\($0 % 250 + 1)" }
            server.put(.endpointslices, endpointSlice("large", of: "web", addresses: addresses))
            try await soon("the slice") {
                recorder.now.cluster.slices[ObjectName("default", "large")]?.endpoints.count == 1000
            }
            // The same again as replayed history, dripping.
            server.put(.endpointslices, endpointSlice("small", of: "web"))
            server.fail(.endpointslices, .drip(bytes: size))
            server.put(.endpointslices, endpointSlice("other", of: "web"))
            server.endWatches(.endpointslices)
            try await soon("all slices") {
                recorder.slices == ["kubernetes", "large", "other", "small", "web-1", "web-2"]
            }
        }
    }

    @Test("Characters that other programs take for line ends are part of the text")
    func keepsLineSeparators() async throws {
        try await afterSync { server, recorder in
            var object = service("odd")
            object.moreMetadata = "\"annotations\":{\"note\":\"a\u{2028}b\u{85}c\u{2029}d\u{b}\u{c}\"}"
                .replacing("\u{b}", with: #"\u000b"#).replacing("\u{c}", with: #"\f"#)
            server.put(.services, object)
            try await soon("the service") { recorder.services.contains("odd") }
            #expect(recorder.problems.isEmpty)
        }
    }

    @Test("A list cut in the middle of an object is made again; half of it deletes nothing")
    func survivesCutList() async throws {
        try await afterSync { server, recorder in
            server.forgetHistory()
            server.configure { $0.offersStreamedLists = false }
            server.fail(.services, .status(410, reason: "Expired"), .cut(afterBytes: 200), .cut(afterBytes: 500))
            server.endWatches(.services)
            try await soon("watching again") { server.watchers(.services) == 1 }
            #expect(recorder.now.deleted.isEmpty)
            #expect(recorder.services == ["kubernetes", "web"])
        }
    }

    @Test("A watch cut in the middle of an event goes on from the event before")
    func survivesCutWatch() async throws {
        try await afterSync { server, recorder in
            let before = server.version
            server.fail(.services, .cut(afterBytes: 300))
            server.endWatches(.services)
            server.put(.services, service("a"), service("b"))
            try await soon("both") { recorder.services == ["a", "b", "kubernetes", "web"] }
            try await soon("watching") { server.watchers(.services) == 1 }
            let versions = server.requests(.services).filter { !$0.isStreamedList }.map { $0.query["resourceVersion"] }
            #expect(versions.first == "\(before)" || versions.first.flatMap { $0.flatMap { Int($0) } } ?? 0 <= before)
            #expect(recorder.now.deleted.isEmpty)
        }
    }

    @Test("Garbage in a watch ends it, not the source")
    func survivesGarbage() async throws {
        try await afterSync { server, recorder in
            server.sendRaw(.services, "<html>Bad Gateway</html>\n")
            server.sendRaw(.endpointslices, "{\"type\":\"ADDED\",\"object\":{\"metadata\":[]}}\n")
            try await soon("told") { recorder.problems.count == 2 || server.requests(.services).count > 2 }
            server.put(.services, service("later"))
            try await soon("later") { recorder.services.contains("later") }
            try await soon("no problems") { recorder.problems.isEmpty }
            #expect(recorder.now.deleted.isEmpty)
            #expect(try #require(recorder.status(.service)).errors == 1)
        }
    }

    @Test("A page of HTML with status 200 in place of a list is no empty list")
    func refusesForeignAnswer() async throws {
        try await afterSync { server, recorder in
            server.configure { $0.offersStreamedLists = false }
            server.forgetHistory()
            server.fail(
                .services, .status(410), .body("<html>login</html>"), .body(#"{"kind":"Status","status":"Success"}"#),
                .body("[]"), .body(""))
            server.endWatches(.services)
            try await soon("watching again") { server.watchers(.services) == 1 }
            #expect(recorder.now.deleted.isEmpty)
        }
    }

    // MARK: History

    @Test("After 410 a new list shows what vanished meanwhile", arguments: [true, false], [true, false])
    func relists(inEvent: Bool, streams: Bool) async throws {
        try await afterSync(prepare: { server in server.configure { $0.offersStreamedLists = streams } }) {
            server, recorder in
            server.deleteSilently(.endpointslices, "default", "web-2")
            if inEvent {
                server.sendRaw(
                    .endpointslices,
                    #"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#
                        + #""message":"too old resource version","reason":"Expired","code":410}}"# + "\n")
            } else {
                server.endWatches(.endpointslices)
            }
            try await soon("web-2 is gone") { recorder.slices == ["kubernetes", "web-1"] }
            #expect(recorder.now.deleted.map(\.name.name) == ["web-2"])
            try await soon("no problems") { recorder.problems.isEmpty }
        }
    }

    @Test("A continue token that has expired begins the list again")
    func restartsList() async throws {
        try await withSource(
            prepare: { server in
                server.configure {
                    $0.offersStreamedLists = false
                    $0.pageSize = 2
                }
                server.put(.services, (0..<6).map { service("s\($0)") })
                server.fail(.services, .endAtOnce, .status(410, reason: "Expired"))
            },
            { server, recorder in
                try await soon("synced") { recorder.now.synced == 1 }
                #expect(recorder.now.atSync?.services == 6)
                #expect(server.requests(.services).filter { $0.isList && $0.query["continue"] == nil }.count == 2)
            })
    }

    @Test("A bookmark's version is where the next watch begins")
    func remembersBookmarks() async throws {
        try await afterSync { server, recorder in
            server.put(.nodes, node("node-3"), node("node-4"))
            server.bookmark(.services)
            let version = "\(server.version)"
            try await soon("the bookmark") { recorder.status(.service)?.resourceVersion == version }
            server.endWatches(.services)
            try await soon("watching again") { server.watchers(.services) == 1 }
            #expect(server.requests(.services).last?.query["resourceVersion"] == version)
        }
    }

    @Test("Watches that end in good order go on for ever; that they end after moments is said")
    func reconnectsForEver() async throws {
        try await afterSync { server, recorder in
            for round in 0..<15 {
                server.put(.services, service("s\(round)"))
                try await soon("round \(round)") {
                    recorder.services.contains("s\(round)") && server.watchers(.services) == 1
                }
                server.endWatches(.services)
            }
            try await soon("watching") { server.watchers(.services) == 1 }
            let status = try #require(recorder.status(.service))
            #expect(status.reconnects >= 15 && status.errors == 0)
            #expect(server.requests(.services).filter(\.isStreamedList).count == 1)
            #expect(recorder.problems.count == 1 && recorder.problems[0].contains("after moments"))
        }
    }

    @Test("A server that does not know streamed lists, and says nothing of it, gets a list request")
    func fallsBackOnOldServers() async throws {
        try await withSource(
            prepare: { server in
                server.configure { $0.ignoresStreamedLists = true }
                server.fill()
            },
            { server, recorder in
                for resource in FakeResource.followed {
                    try await soon("watching") { server.watchers(resource) == 1 }
                    server.bookmark(resource)
                }
                try await soon("synced") { recorder.now.synced == 1 }
                #expect(recorder.services == ["kubernetes", "web"])
            })
    }

    // MARK: Refusals

    @Test("403 says what to allow; the other kinds go on")
    func explainsForbidden() async throws {
        try await withSource(
            prepare: { server in
                server.fill()
                server.fail(.endpointslices, .status(403, reason: "Forbidden", message: "User cannot list resource"))
            },
            { _, recorder in
                try await soon("told") { recorder.problems.contains { $0.contains("403") } }
                let text = try #require(recorder.problems.first)
                for word in ["endpointslices", "discovery.k8s.io", "list and watch", "ClusterRole", "User cannot list"]
                {
                    #expect(text.contains(word), "\(text)")
                }
                #expect(recorder.now.synced == 0)
                #expect(recorder.status(.endpointSlice)?.state == .waiting)
                try await soon("services") { recorder.services.count == 2 }
            })
    }

    @Test("429 and 500 are waited out, and nothing is lost")
    func waitsOut() async throws {
        try await afterSync { server, recorder in
            server.fail(.services, .status(429, headers: ["Retry-After": "1"]), .status(500, message: "etcd is away"))
            server.endWatches(.services)
            server.put(.services, service("later"))
            try await soon("told") { recorder.problems.contains { $0.contains("429") } }
            try await soon("later") { recorder.services.contains("later") }
            try await soon("no problems") { recorder.problems.isEmpty }
            #expect(recorder.now.deleted.isEmpty)
            #expect(server.requests(.services).filter(\.isStreamedList).count == 1)
        }
    }

    @Test("The token file is read again for each request, so that 401 ends with the new token")
    func renewsToken() async throws {
        let directory = try TemporaryDirectory()
        let file = directory.path + "/token"
        try writeText("old\n", to: file)
        try await withSource(
            configure: { $0.access.login = .tokenFile(file) },
            prepare: { server in
                server.fill()
                server.configure { $0.acceptedTokens = ["old"] }
            },
            { server, recorder in
                try await soon("synced") { recorder.now.synced == 1 }
                server.configure { $0.acceptedTokens = ["new"] }
                server.endWatches(.services)
                try await soon("told") { recorder.problems.contains { $0.contains("401") } }
                try writeText("new\n", to: file)
                try await soon("watching again") { server.watchers(.services) == 1 }
                #expect(recorder.now.deleted.isEmpty)
            })
    }

    @Test("A plugin runs again when the server no longer takes what it gave")
    func renewsPlugin() async throws {
        let directory = try TemporaryDirectory()
        let file = directory.path + "/token"
        try writeText("old", to: file)
        let script = #"printf '{"status":{"token":"%s"}}' "$(cat \#(file))"; echo run >> \#(file).runs"#
        try await withSource(
            configure: {
                $0.access.login = .plugin(
                    ExecPlugin(apiVersion: ExecPlugin.versions[0], command: "sh", arguments: ["-c", script]))
            },
            prepare: { server in
                server.fill()
                server.configure { $0.acceptedTokens = ["old"] }
            },
            { server, recorder in
                try await soon("synced") { recorder.now.synced == 1 }
                #expect(readText(file + ".runs") == "run\n", "one run is for all watches")
                server.configure { $0.acceptedTokens = ["new"] }
                // A plugin may give the old token for a while: it is asked again until it gives the new one.
                server.endWatches(.services)
                try await soon("asked again") { readText(file + ".runs").count > 8 }
                try writeText("new", to: file)
                try await soon("watching again") { server.watchers(.services) == 1 }
                #expect(recorder.now.deleted.isEmpty)
            })
    }

    @Test("A server that refuses everything is asked ever less often, and what it says is told", arguments: [400, 405])
    func pacesRefusals(code: Int) async throws {
        try await withSource(
            prepare: { server in
                server.fill()
                for resource in FakeResource.allCases {
                    for _ in 0..<1000 { server.fail(resource, .status(code, message: "no")) }
                }
            },
            { server, recorder in
                try await soon("told") { recorder.problems.contains { $0.contains("answered \(code)") } }
                // Two at once, whichever list was told of, and then pauses from 10 ms up: a loop would have used up the
                // thousand by now.
                try await soon("asked again") { server.requests(.services).count >= 2 }
                let first = server.requests(.services).count
                #expect(first < 50, "\(first) requests")
                server.forgetFaults()
                try await soon("synced") { recorder.now.synced == 1 }
            })
    }

    @Test("A server restored from a backup: what is gone goes, what came back comes, and a line says so")
    func followsRestoredServer() async throws {
        try await afterSync { server, recorder in
            server.put(.services, service("young", clusterIP: "10.96.0.20"))
            try await soon("young") { recorder.services.contains("young") }
            server.restore(.services, to: 100, [service("kubernetes"), service("old", clusterIP: "10.96.0.21")])
            server.bookmark(.services)
            try await soon("the backup's services") { recorder.services == ["kubernetes", "old"] }
            try await soon("told") { recorder.problems.contains { $0.contains("went back") && $0.contains("backup") } }
            try await soon("watching") { server.watchers(.services) == 1 }
            server.put(.services, service("new", clusterIP: "10.96.0.22"))
            try await soon("new") { recorder.services.contains("new") }
        }
    }

    // MARK: Outages

    @Test("A server that goes away and comes back takes nothing away")
    func survivesRestart() async throws {
        try await afterSync { server, recorder in
            for _ in 0..<5 { server.dropConnections() }
            server.put(.services, service("later"))
            try await soon("later") { recorder.services.contains("later") }
            #expect(recorder.now.deleted.isEmpty)
            #expect(recorder.now.synced == 1)
        }
    }

    @Test("A watch that says nothing for too long is begun anew, without complaint")
    func noticesSilence() async throws {
        var timing = KubernetesSource.Timing.quick
        timing.silence = .milliseconds(300)
        try await withSource(timing: timing, prepare: { $0.fill() }) { server, recorder in
            try await soon("several watches") { server.requests(.nodes).filter { !$0.isStreamedList }.count > 3 }
            #expect(recorder.now.deleted.isEmpty)
            #expect(recorder.problems.isEmpty)
        }
    }

    // MARK: Objects

    @Test("An object that cannot be used is told of; its last good version stays, and the others go on")
    func keepsLastGood() async throws {
        try await afterSync { server, recorder in
            server.put(.services, service("web", clusterIP: "10.96.0.10", port: 99999), service("new"))
            try await soon("new") { recorder.services.contains("new") }
            try await soon("told") { recorder.problems.contains { $0.contains("Service default/web") } }
            let web = ObjectName("default", "web")
            #expect(recorder.now.cluster.services[web]?.ports.first?.port == 80)
            #expect(recorder.status(.service)?.refusedObjects == 1)
            // Also through a new list.
            server.forgetHistory()
            server.endWatches(.services)
            try await soon("listed again") { server.requests(.services).filter(\.isStreamedList).count == 2 }
            try await soon("watching") { server.watchers(.services) == 1 }
            #expect(recorder.now.cluster.services[web]?.ports.first?.port == 80)

            server.put(.services, service("web", clusterIP: "10.96.0.10", port: 81))
            try await soon("mended") { recorder.now.cluster.services[web]?.ports.first?.port == 81 }
            try await soon("no problems") { recorder.problems.isEmpty }
        }
    }

    @Test("An empty list right after a good one is not believed until a second one says the same")
    func doubtsEmptyList() async throws {
        try await afterSync { server, recorder in
            server.forgetHistory()
            server.fail(.services, .status(410), .empty)
            server.endWatches(.services)
            try await soon("told") { recorder.problems.contains { $0.contains("all 2 services are gone") } }
            try await soon("watching again") { server.watchers(.services) == 1 && recorder.problems.isEmpty }
            #expect(recorder.now.deleted.isEmpty)
            #expect(recorder.services == ["kubernetes", "web"])
        }
    }

    @Test("When the second list is empty, too, only the way to the API server stays")
    func believesSecondEmptyList() async throws {
        try await afterSync { server, recorder in
            server.forgetHistory()
            server.fail(.services, .status(410), .empty, .empty)
            server.fail(.endpointslices, .status(410), .empty, .empty)
            server.endWatches(.services)
            server.endWatches(.endpointslices)
            try await soon("gone") { recorder.services == ["kubernetes"] && recorder.slices == ["kubernetes"] }
            try await soon("told") { recorder.problems.count == 2 }
            #expect(recorder.problems.allSatisfy { $0.contains("default/kubernetes") })
            try await soon("watching") { server.watchers(.services) == 1 && server.watchers(.endpointslices) == 1 }
            server.put(.services, service("kubernetes"))
            server.put(.endpointslices, endpointSlice("kubernetes", of: "kubernetes"))
            try await soon("no problems") { recorder.problems.isEmpty }
        }
    }
}
