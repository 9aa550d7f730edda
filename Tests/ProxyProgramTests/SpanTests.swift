// What a collector is told of a request.
import Addressing
import Balancing
import RouteIR
import Testing

@testable import Proxy
@testable import ProxyProgram

@Suite struct SpanTests {
    @Test(arguments: ["http", "https"]) func theURLSaysHowTheConnectionSpoke(scheme: String) {
        var record = RequestRecord(
            began: .start, ended: .start, scheme: scheme, client: SocketAddress(IPAddress(v4: 1), 1),
            dialled: SocketAddress(IPAddress(v4: 2), 80))
        (record.authority, record.path) = ("cart", "/a")
        var random = FastGenerator(seed: 1)
        let span = spanJSON(record, TraceContext(sampled: true, using: &random), ProxyNode(name: "n"), end: 0)
        #expect(span.contains(#"{"key":"http.url","value":{"stringValue":"\#(scheme)://cart/a"}}"#), "\(span)")
    }
}
