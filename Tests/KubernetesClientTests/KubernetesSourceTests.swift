/// The source against an API server that behaves well.
import Cluster
import FakeAPIServer
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct KubernetesSourceTests {
    @Test("Everything there is comes first, then `synced`, then each change", arguments: [true, false])
    func followsCluster(streams: Bool) async throws {
        try await withSource(
            prepare: { server in
                server.configure { $0.offersStreamedLists = streams }
                server.fill()
            },
            { server, recorder in
                try await soon("synced") { recorder.now.synced == 1 }
                #expect(recorder.now.atSync?.services == 2)
                #expect(recorder.now.atSync?.slices == 3)
                #expect(recorder.now.cluster.nodes.keys.sorted() == ["node-1"])
                #expect(recorder.now.cluster.serviceCIDRs.count == 1)
                #expect(recorder.problems.isEmpty)

                try await soon("watching") {
                    server.watchers(.endpointslices) == 1 && server.watchers(.services) == 1
                }
                server.put(.endpointslices, endpointSlice("web-1", of: "web", addresses: ["10.1.0.13", "10.1.0.14"]))
                server.delete(.endpointslices, "default", "web-2")
                server.put(.services, service("new", clusterIP: "10.96.0.11"))
                try await soon("the edits") {
                    recorder.slices == ["kubernetes", "web-1"] && recorder.services == ["kubernetes", "new", "web"]
                }
                #expect(recorder.now.cluster.slices[ObjectName("default", "web-1")]?.endpoints.count == 2)
                #expect(recorder.now.synced == 1)
                let status = try #require(recorder.status(.endpointSlice))
                #expect(status.state == .watching && status.objects == 2 && status.errors == (streams ? 0 : 1))
                #expect(status.age != nil && status.resourceVersion != nil)
            })
    }

    /// What the source says it has told up to a version is told before that, from lists, events and bookmarks.
    @Test(arguments: [true, false]) func versionsFollowWhatTheyAreOf(streams: Bool) async throws {
        try await withSource(
            prepare: { server in
                server.configure { $0.offersStreamedLists = streams }
                server.fill()
            },
            { server, recorder in
                try await soon("watching") { server.watchers(.services) == 1 }
                try await soon("the list is told") { recorder.now.reached[.service] == "\(server.version)" }
                var names = recorder.services
                for number in 0..<50 {
                    server.put(.services, service("s\(number)", clusterIP: "10.96.1.\(number)"))
                    names.append("s\(number)")
                    let version = "\(server.version)"
                    if number % 10 == 0 { try await soon("told") { recorder.now.reached[.service] == version } }
                }
                let last = server.version
                try await soon("all are told") { recorder.now.reached[.service] == "\(last)" }
                let first = last - 49
                for (versions, known) in recorder.now.knownAt {
                    guard let version = versions[.service].flatMap({ Int($0) }), version >= first else { continue }
                    #expect(Set(known).isSuperset(of: (0...(version - first)).map { "s\($0)" }))
                }
                // Another kind's version is another one's.
                let slices = try #require(recorder.now.reached[.endpointSlice].flatMap { Int($0) })
                #expect(slices < first)
                server.bookmark(.endpointslices)
                try await soon("the bookmark is told") { recorder.now.reached[.endpointSlice] == "\(last)" }
                #expect(recorder.now.reached[.pod] == nil)
            })
    }

    @Test("A list longer than a page is read page by page, and in few events")
    func readsPages() async throws {
        try await withSource(
            prepare: { server in
                server.configure {
                    $0.offersStreamedLists = false
                    $0.pageSize = 7
                }
                server.put(.services, (0..<100).map { service("s\($0)") })
            },
            { server, recorder in
                try await soon("synced") { recorder.now.synced == 1 }
                #expect(recorder.now.atSync?.services == 100)
                let lists = server.requests(.services).filter(\.isList)
                #expect(lists.count == 15)
                #expect(lists.allSatisfy { $0.query["limit"] == "500" })
                #expect(lists.dropFirst().allSatisfy { $0.query["continue"] != nil })
            })
    }

    @Test("Compressed answers are read like others", arguments: [true, false])
    func readsCompressed(streams: Bool) async throws {
        try await withSource(
            compresses: true,
            prepare: { server in
                server.configure { $0.offersStreamedLists = streams }
                server.put(.services, (0..<300).map { service("s\($0)") })
            },
            { server, recorder in
                try await soon("synced") { recorder.now.synced == 1 }
                #expect(recorder.now.atSync?.services == 300)
                try await soon("watching") { server.watchers(.services) == 1 }
                server.put(.services, service("later"))
                try await soon("later") { recorder.services.contains("later") }
            })
    }

    @Test("Objects are chosen as kube-proxy chooses them; one that stops matching is deleted for us")
    func selects() async throws {
        try await withSource(
            prepare: { server in
                server.fill()
                server.put(.services, service("mesh", labels: ["service.kubernetes.io/service-proxy-name": "mesh"]))
                server.put(.services, service("quiet", labels: ["service.kubernetes.io/headless": ""]))
            },
            { server, recorder in
                try await soon("synced") { recorder.now.synced == 1 }
                #expect(recorder.services == ["kubernetes", "web"])
                server.put(.services, service("web", labels: ["service.kubernetes.io/headless": ""]))
                try await soon("web is gone") { recorder.services == ["kubernetes"] }
                server.put(.services, service("web"))
                try await soon("web is back") { recorder.services == ["kubernetes", "web"] }
            })
    }

    @Test("With a proxy name only its own objects are followed")
    func selectsProxyName() async throws {
        try await withSource(
            configure: { $0.serviceProxyName = "mesh" },
            prepare: { server in
                server.fill()
                server.put(.services, service("mesh", labels: ["service.kubernetes.io/service-proxy-name": "mesh"]))
            },
            { _, recorder in
                try await soon("synced") { recorder.now.synced == 1 }
                #expect(recorder.services == ["mesh"])
                #expect(recorder.slices.isEmpty)
            })
    }

    @Test("Without ServiceCIDRs and without a Node object of ours the first sync still comes (spec rows 158, 177)")
    func toleratesMissingKinds() async throws {
        try await withSource(
            prepare: { server in
                server.configure { $0.hasServiceCIDRs = false }
                server.put(.services, service("web"))
            },
            { _, recorder in
                try await soon("synced") { recorder.now.synced == 1 }
                #expect(recorder.problems.isEmpty)
                try await soon("off") { recorder.status(.serviceCIDR)?.state == .off }
            })
    }

    @Test("A ServiceCIDR API that does not answer holds the first sync up for a moment only")
    func excusesSlowServiceCIDRs() async throws {
        try await withSource(
            prepare: { server in
                server.fail(.servicecidrs, .silence)
                server.fill()
            },
            { _, recorder in
                try await soon("synced") { recorder.now.synced == 1 }
                #expect(recorder.now.atSync?.services == 2)
            })
    }

    @Test("Nothing is synced before Services, EndpointSlices and Nodes are all there")
    func waitsForAll() async throws {
        try await withSource(
            prepare: { server in
                server.fail(.endpointslices, .silence)
                server.fill()
            },
            { server, recorder in
                try await soon("services") { recorder.services.count == 2 && server.watchers(.nodes) == 1 }
                try await soon("the slices were asked for") { !server.requests(.endpointslices).isEmpty }
                #expect(recorder.now.synced == 0)
                server.dropConnections()
                try await soon("synced") { recorder.now.synced == 1 }
                #expect(recorder.now.atSync?.slices == 3)
            })
    }

    @Test("Stopping ends the events")
    func stops() async throws {
        try await withSource(prepare: { $0.fill() }) { _, recorder in
            try await soon("synced") { recorder.now.synced == 1 }
            recorder.source.stop()
            try await soon("the events have ended") { recorder.now.hasEnded }
        }
    }
}
