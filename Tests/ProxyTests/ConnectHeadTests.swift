/// What a client's node writes is what a server's node reads, and whatever else comes is refused or left out.
import Addressing
import Balancing
import HTTP2Wire
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct ConnectHeadTests {
    private func read(_ fields: [(String, String)]) throws -> ConnectHead? {
        var list = FieldList()
        for (name, value) in fields { list.append(name, value) }
        var client = HTTP2Machine(.client)
        guard (try? client.open(list, isLast: false)) != nil else { return nil }
        var server = HTTP2Machine(.server)
        var facts: HeadFacts?
        var at = 0
        var into = FieldList()
        client.output.withBytes { bytes in
            while facts == nil, let event = server.next(bytes, at: &at, into: &into) {
                if case .head(_, let found, _) = event { facts = found }
            }
        }
        return try facts.map { try ConnectHead(into, $0) }
    }

    @Test func whatIsWrittenIsRead() throws {
        var random = FastGenerator(seed: 1)
        for (target, client) in [("10.0.0.7:8080", "10.0.0.5:4711"), ("[fd00::7]:80", "[fd00::5]:1")] {
            let (target, client) = (try #require(SocketAddress(target)), try #require(SocketAddress(client)))
            let list = ConnectHead.fields(
                to: target, client: client, service: "cart.shop.svc.cluster.local", baggage: "k8s.namespace.name=shop",
                trace: TraceContext(sampled: false, using: &random))
            let head = try read(list.fields.map { (list.nameText($0), list.valueText($0)) })
            #expect(head?.target == target && head?.client == client)
            #expect(head?.service == "cart.shop.svc.cluster.local")
            #expect(list.fields.contains { list.nameText($0) == "traceparent" })
        }
    }

    @Test(arguments: ["cart:80", "10.0.0.7", "10.0.0.7:0", "10.0.0.7:99999", "10.0.0.7:80:90", ":80"])
    func onlyAddressesAreTargets(_ authority: String) throws {
        #expect(throws: TunnelRefusal.self) { try read([(":method", "CONNECT"), (":authority", authority)]) }
    }

    @Test func onlyConnectOpensATunnel() throws {
        let get = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "10.0.0.7:80")]
        #expect(throws: TunnelRefusal.self) { try read(get) }
    }

    @Test(arguments: [
        "for=10.0.0.5:1", "for=\"10.0.0.5:1\" ; host=\"cart\"", "for=_hidden, for=10.0.0.5:1", "=;;=,", "for=\"",
        "FOR=10.0.0.5:1;for=10.0.0.6:1", "host=" + String(repeating: "x", count: 301), "host=c\u{e4}rt", "host=a b",
        "host=\"<cart>\"",
    ])
    func whatIsSaidOfTheClientIsTakenOrLeft(_ forwarded: String) throws {
        let head = try read([(":method", "CONNECT"), (":authority", "10.0.0.7:80"), ("forwarded", forwarded)])
        let isPlain = forwarded.lowercased().hasPrefix("for=10") || forwarded.hasPrefix("for=\"10")
        #expect(head?.client == (isPlain ? SocketAddress("10.0.0.5:1") : nil))
        #expect(head?.service == (forwarded.contains("\"cart\"") ? "cart" : nil))
    }

    @Test func noForwardedBreaksTheReader() throws {
        var generator = SeededGenerator(seed: 15)
        let letters = Array("for=host\"[];:,.0123456789 \t_-".utf8)
        for _ in 1...2000 {
            let text = (0..<Int.random(in: 0...60, using: &generator)).map { _ in
                letters.randomElement(using: &generator) ?? 0
            }
            _ = try read([
                (":method", "CONNECT"), (":authority", "10.0.0.7:80"),
                ("forwarded", String(decoding: text, as: UTF8.self)),
            ])
        }
    }
}
