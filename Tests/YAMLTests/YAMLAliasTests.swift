/// Anchors, aliases and merge keys, as Kubernetes' own tools read them.
import Testing
import YAML

@Suite struct YAMLAliasTests {
    /// A document as JSON without spaces; scalars as text.
    private func render(_ node: YAMLNode) -> String {
        switch node.kind {
        case .scalar: node.text
        case .sequence: "[" + node.elements.map(render).joined(separator: ",") + "]"
        case .mapping: "{" + node.entries.map { "\($0.key.text):\(render($0.value))" }.joined(separator: ",") + "}"
        }
    }
    private func render(_ text: String) throws -> String {
        try YAMLStream.documents(in: Array(text.utf8)).map { render($0.root) }.joined(separator: " ")
    }
    private func failure(_ text: String) -> YAMLError? {
        do throws(YAMLError) {
            _ = try YAMLStream.documents(in: Array(text.utf8))
            return nil
        } catch {
            return error
        }
    }

    @Test(
        "An alias is what it stands for",
        arguments: [
            ("a: &x 1\nb: *x", "{a:1,b:1}"), ("- &x {k: [1, 2]}\n- *x\n- [*x]", "[{k:[1,2]},{k:[1,2]},[{k:[1,2]}]]"),
            ("&k key: &v value\n*v : *k", "{key:value,value:key}"),
            ("- &x 1\n- *x\n- &x 2\n- *x", "[1,1,2,2]"), ("- &x [&x 1]\n- *x", "[[1],1]"),
            ("- &x [&y 1, *y]\n- *x\n- *y", "[[1,1],[1,1],1]"), ("a: &e\nb: *e", "{a:,b:}"),
        ])
    func expands(text: String, expected: String) throws { #expect(try render(text) == expected) }

    @Test func anAliasKeepsTheTypeOfItsScalar() throws {
        let document = try #require(
            try YAMLStream.documents(in: Array("a: &n 80\nb: &s \"80\"\nc: [*n, *s]".utf8)).first)
        let scalars = document.root["c"]?.elements.map(\.scalar)
        #expect(scalars == [.int(80), .string])
    }

    @Test(
        "<< puts a mapping's keys into another, whose own keys win",
        arguments: [
            ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3, z: 4}", "{a:{x:1,y:2},b:{x:1,y:3,z:4}}"),
            ("a: &a {x: 1}\nb: {z: 4, <<: *a}", "{a:{x:1},b:{z:4,x:1}}"),
            ("- &a {x: 1, y: 1}\n- &b {y: 2, z: 2}\n- {<<: [*a, *b], z: 3}", "[{x:1,y:1},{y:2,z:2},{x:1,y:1,z:3}]"),
            (
                "- &a {x: {k: [1]}}\n- &b {<<: *a, y: 2}\n- {<<: *b, z: 3}",
                "[{x:{k:[1]}},{x:{k:[1]},y:2},{x:{k:[1]},y:2,z:3}]"
            ),
            ("{<<: {x: 1}, y: 2}", "{x:1,y:2}"), ("{<<: {<<: {x: 1}, y: 2}, x: 3}", "{y:2,x:3}"),
            ("{<<: {}, y: 2}", "{y:2}"), ("{<<: [], y: 2}", "{y:2}"), ("{\"<<\": {x: 1}}", "{<<:{x:1}}"),
            ("- &a {<<: {x: 1}, k: &k [1]}\n- *a\n- *k", "[{x:1,k:[1]},{x:1,k:[1]},[1]]"),
        ])
    func merges(text: String, expected: String) throws { #expect(try render(text) == expected) }

    @Test func aMergedValueIsFoundByItsKey() throws {
        let text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}"
        let root = try #require(try YAMLStream.documents(in: Array(text.utf8)).first).root
        #expect(root["b"]?["x"]?.text == "1" && root["b"]?["y"]?.text == "3" && root["b"]?["<<"] == nil)
    }

    @Test(
        "What cannot be meant is refused, and said",
        arguments: [
            ("a: *x", "no anchor &x"), ("---\na: &x 1\n---\nb: *x", "no anchor &x"),
            ("a: &x [*x]", "inside of what it stands for"), ("a: &x {<<: *x}", "inside of what it stands for"),
            ("<<: 1", "must be a mapping or a list of mappings"),
            ("<<: [1]", "must be a mapping or a list of mappings"),
            ("<<: {a: 1}\n<<: {b: 1}", "is there twice"), ("a: 1\n<<: {b: 1}\na: 2", "is there twice"),
            ("a: 1\n<<: {a: 2}", "put << first"), ("<<: {a: &x 1}\nb: *x", "an anchor must not be inside"),
        ])
    func refuses(text: String, message: String) throws {
        #expect(try #require(failure(text)).message.contains(message))
    }
}
