/// What a new list says is gone.
import Cluster
import Testing

@testable import KubernetesClient

@Suite struct ObjectTableTests {
    private func put(_ names: String..., in table: inout ObjectTable) {
        for name in names { table.put(.service(Service(name: ObjectName("default", name)))) }
    }
    private func names(_ names: String...) -> [ObjectName] { names.map { ObjectName("default", $0) } }

    private func expectEnd(
        _ table: inout ObjectTable, _ expected: ObjectTable.Replacement, at location: SourceLocation = #_sourceLocation
    ) {
        let replacement = table.endReplacing()
        #expect(replacement == expected, sourceLocation: location)
    }

    @Test func goneIsWhatIsMissing() {
        var table = ObjectTable(.services(proxyName: nil))
        put("a", "b", "c", in: &table)
        table.beginReplacing()
        put("b", "d", in: &table)
        table.keep(ObjectName("default", "c"))
        expectEnd(&table, .complete(gone: names("a")))
        #expect(table.names.count == 3)
    }

    @Test("A list that was begun twice counts from the second beginning") func restarted() {
        var table = ObjectTable(.services(proxyName: nil))
        table.beginReplacing()
        put("a", "b", in: &table)
        table.beginReplacing()
        put("b", in: &table)
        expectEnd(&table, .complete(gone: names("a")))
    }

    @Test func emptyListIsDoubtedOnce() {
        var table = ObjectTable(.services(proxyName: nil))
        put("kubernetes", "web", in: &table)
        table.beginReplacing()
        expectEnd(&table, .doubted)
        table.beginReplacing()
        expectEnd(&table, .complete(gone: names("web")))
        #expect(table.kept == Set(names("kubernetes")))
        table.beginReplacing()
        expectEnd(&table, .complete(gone: []))
        table.beginReplacing()
        put("new", in: &table)
        expectEnd(&table, .complete(gone: names("kubernetes")))
    }

    @Test("A first list may be empty, and so may lists of other kinds") func emptyIsFine() {
        var services = ObjectTable(.services(proxyName: nil))
        services.beginReplacing()
        expectEnd(&services, .complete(gone: []))
        var nodes = ObjectTable(.node(named: "n"))
        nodes.put(.node(Node(name: "n")))
        nodes.beginReplacing()
        expectEnd(&nodes, .complete(gone: [ObjectName("", "n")]))
    }

    @Test func deletedObjectsAreKnownNoMore() {
        var table = ObjectTable(.services(proxyName: nil))
        put("a", in: &table)
        let answers = [table.remove(ObjectName("default", "a")), table.remove(ObjectName("default", "a"))]
        #expect(answers == [true, false])
    }
}
