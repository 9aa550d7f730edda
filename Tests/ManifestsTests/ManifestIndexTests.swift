/// What files say, and which file is in force for each object.
import Addressing
import Cluster
import Manifests
import Testing

private func file(_ name: String, _ text: String) -> ManifestFile {
    var options = ObjectDecoder.Options()
    options.defaultNamespace = "default"
    var decoder = ObjectDecoder(options: options)
    return ManifestFile(name: name, bytes: Array(text.utf8), decoder: &decoder)
}
private func service(_ name: String, port: Int) -> String {
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: \(name)}\n"
        + "spec: {clusterIP: 10.0.0.1, ports: [{port: \(port)}]}\n"
}
private func describe(_ changes: [Change]) -> [String] {
    changes.map { change in
        switch change {
        case .upsert(.service(let service)): "\(service.name.name):\(service.ports.first?.port ?? 0)"
        case .upsert(let object): "\(object.id)"
        case .delete(let id): "-\(id.name.name)"
        }
    }
}

@Suite struct ManifestIndexTests {
    @Test func onlyRealDifferencesAreChanges() {
        var index = ManifestIndex()
        index.update("a.yaml", file("a.yaml", service("x", port: 1) + service("y", port: 2)))
        #expect(describe(index.commit()) == ["x:1", "y:2"])
        index.update("a.yaml", file("a.yaml", "# comment\n" + service("x", port: 1) + service("y", port: 3)))
        #expect(describe(index.commit()) == ["y:3"])
        index.update("a.yaml", file("a.yaml", service("y", port: 3)))
        #expect(describe(index.commit()) == ["-x"])
        index.update("a.yaml", nil)
        #expect(describe(index.commit()) == ["-y"])
        #expect(index.commit().isEmpty)
    }

    @Test func anObjectMovedBetweenFilesDoesNotBlink() {
        var index = ManifestIndex()
        index.update("a.yaml", file("a.yaml", service("x", port: 1)))
        _ = index.commit()
        index.update("a.yaml", nil)
        index.update("b.yaml", file("b.yaml", service("x", port: 1)))
        #expect(index.commit().isEmpty)
        index.update("b.yaml", nil)
        index.update("a.yaml", file("a.yaml", service("x", port: 2)))
        #expect(describe(index.commit()) == ["x:2"])
    }

    @Test func theFirstFileNameWins() {
        let a = file("a.yaml", service("x", port: 1))
        let b = file("b.yaml", service("x", port: 2))
        for order in [[a, b], [b, a]] {
            var index = ManifestIndex()
            for (file, name) in zip(
                order, order.map { $0.entries.first?.object == a.entries.first?.object ? "a.yaml" : "b.yaml" })
            {
                index.update(name, file)
            }
            #expect(describe(index.commit()) == ["x:1"])
            #expect(index.problems.map(\.location) == ["b.yaml:2"])
            #expect(index.problems.first?.message.contains("also in a.yaml:2") == true)
            index.update("a.yaml", nil)
            #expect(describe(index.commit()) == ["x:2"])
            #expect(index.problems.isEmpty)
        }
    }
    @Test func theFirstDocumentWins() {
        let both = file("a.yaml", service("x", port: 1) + service("x", port: 2))
        #expect(both.entries.count == 1)
        #expect(both.problems.map(\.location) == ["a.yaml:7"])
        #expect(both.problems.first?.object == "Service default/x")
    }

    @Test func aBrokenDocumentKeepsItsLastGoodVersion() {
        var index = ManifestIndex()
        index.update("a.yaml", file("a.yaml", service("x", port: 1) + service("y", port: 2) + service("z", port: 3)))
        _ = index.commit()
        index.update("a.yaml", file("a.yaml", service("x", port: 0) + service("y", port: 4)))
        #expect(describe(index.commit()) == ["y:4", "-z"])
        let problem = index.problems.first
        #expect(problem?.location == "a.yaml:5" && problem?.field == "spec.ports[0].port")
        #expect(problem?.object == "Service default/x")
        index.update("a.yaml", file("a.yaml", service("x", port: 5) + service("y", port: 4)))
        #expect(describe(index.commit()) == ["x:5"])
        #expect(index.problems.isEmpty)
    }
    @Test(arguments: [
        "---\na: [\n", "---\nkind: Service\n", "---\njust text\n", "---\napiVersion: v1\nkind: Service\nmetadata: {}\n",
    ])
    func whatCannotBeNamedKeepsTheWholeFile(breakage: String) {
        var index = ManifestIndex()
        index.update("a.yaml", file("a.yaml", service("x", port: 1) + service("y", port: 2)))
        _ = index.commit()
        index.update("a.yaml", file("a.yaml", service("x", port: 3) + breakage))
        #expect(describe(index.commit()) == ["x:3"])
        #expect(index.problems.count == 1)
        index.update("a.yaml", file("a.yaml", service("x", port: 3)))
        #expect(describe(index.commit()) == ["-y"])
    }
    @Test func anUnreadableFileKeepsEverything() {
        var index = ManifestIndex()
        index.update("a.yaml", file("a.yaml", service("x", port: 1)))
        _ = index.commit()
        index.update("a.yaml", ManifestFile(unreadable: "a.yaml", message: "cannot be opened"))
        #expect(index.commit().isEmpty)
        #expect(index.problems.map(\.description) == ["a.yaml: cannot be opened"])
        index.update("a.yaml", nil)
        #expect(describe(index.commit()) == ["-x"])
    }
    /// Then there is nothing to keep, but the others must not suffer.
    @Test func brokenFromTheStart() {
        var index = ManifestIndex()
        index.update("a.yaml", file("a.yaml", service("x", port: 0) + service("y", port: 2)))
        #expect(describe(index.commit()) == ["y:2"])
    }

    @Test func lists() {
        let items = "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: 1}]}}"
        let others = items.replacing("x", with: "y")
        let list = file(
            "a.json",
            "{apiVersion: v1, kind: List, items: [\(items), {kind: ServiceList, items: [\(others)]}, 5]}"
        )
        #expect(list.entries.map(\.object.id.name.name) == ["x", "y"])
        #expect(list.problems.count == 1)
        #expect(file("a.json", "{apiVersion: v1, kind: List, items: null}").problems.isEmpty)
        #expect(file("a.json", "{apiVersion: v1, kind: List, items: 5}").problems.count == 1)
    }
    @Test func kindsOfOthersAreToldOnce() {
        var index = ManifestIndex()
        let deployment = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"
        index.update("b.yaml", file("b.yaml", service("x", port: 1) + deployment + deployment))
        index.update("a.yaml", file("a.yaml", deployment))
        #expect(describe(index.commit()) == ["x:1"])
        #expect(
            index.problems.map(\.description) == [
                "a.yaml:2: kind Deployment (apps/v1) is not read by Heddle and is ignored"
            ])
    }
    @Test func emptyFiles() {
        for text in ["", "\n", "# nothing\n", "---\n", "null\n", "---\n---\n~\n"] {
            #expect(file("a.yaml", text).entries.isEmpty)
            #expect(file("a.yaml", text).problems.isEmpty, "\(text)")
        }
    }
    @Test func hostileTexts() {
        var bomb = "a: &a [x]\n"
        for _ in 0..<30 { bomb += "b: &a [*a, *a, *a]\n" }
        let texts: [[UInt8]] = [
            Array(bomb.utf8), [0x7f, 0x45, 0x4c, 0x46, 0, 1, 2, 0xff], [0xff, 0xfe, 0x61, 0],
            Array(String(repeating: "[", count: 100_000).utf8),
        ]
        var decoder = ObjectDecoder()
        for bytes in texts {
            let file = ManifestFile(name: "a.yaml", bytes: bytes, decoder: &decoder)
            #expect(file.entries.isEmpty && file.problems.count == 1 && file.hasUnnamedBreakage)
            #expect(file.problems.first?.location.hasPrefix("a.yaml:") == true)
        }
    }
}
