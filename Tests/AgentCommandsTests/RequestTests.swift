// `agentctl request`: what it sends, what it waits for, what it says when that does not come.
import TestSupport
import Testing

@testable import AgentCommands

@Suite struct RequestTests {
    @Test(
        arguments: [
            ("http://web", "web", "80", "/"), ("http://web.shop.svc:8080/a?b=/c", "web.shop.svc", "8080", "/a?b=/c"),
            ("http://[fd00::1]/x", "fd00::1", "80", "/x"), ("http://[fd00::1]:81", "fd00::1", "81", "/"),
        ])
    func targets(url: String, host: String, port: String, path: String) throws {
        let target = try #require(HTTPTarget(url))
        #expect(target.host == host && target.port == port && target.path == path)
    }
    @Test(
        arguments: [
            "web", "https://web", "http://", "http:///x", "http://web:0x50", "http://web:70000", "http://[fd00::1]x",
            "http://web/a b", "http://web/\r\nx: y",
        ])
    func noTargets(url: String) { #expect(HTTPTarget(url) == nil) }

    /// As soon as the answer is as expected, and with the headers that were asked for.
    @Test func itAsksUntilTheAnswerIsAsExpected() throws {
        let server = try TestBackend("web") { request in
            request.number < 3
                ? .reply(503) : .reply(200, headers: "Version: v2\r\nConnection: close\r\n", body: "hello")
        }
        defer { server.stop() }
        let url = "http://\(server.address)/cart"
        let text = try run([
            programDirectory + "/agentctl", "request", url, "--header", "end-user: jason", "--expect-status", "200",
            "--expect-header", "version: v2", "--within", "30",
        ])
        #expect(text.hasPrefix("HTTP/1.1 200") && text.hasSuffix("\n\nhello\n"))
        #expect(server.requests.count == 3 && server.requests[0].target == "/cart")
        #expect(server.requests.allSatisfy { $0.header("end-user") == "jason" })
        #expect(server.requests[0].header("host") == "\(server.address)")
    }

    @Test func whatDoesNotComeIsNamed() throws {
        let server = try TestBackend("web") { _ in .reply(200, headers: "Version: v1\r\nConnection: close\r\n") }
        let url = "http://\(server.address)/"
        func failure(_ arguments: String...) -> String {
            do {
                return "passed: "
                    + (try run([programDirectory + "/agentctl", "request", url, "--within", "0"] + arguments))
            } catch {
                return "\(error)"
            }
        }
        #expect(failure("--expect-status", "500").contains("the status is 200 and not 500"))
        #expect(failure("--expect-header", "version: v2").contains("the answer has version: v1 and not version: v2"))
        #expect(failure("--expect-header", "other: x").contains("the answer has no header other and not other: x"))
        #expect(failure("--expect-header", "other").contains("other is not like 'name: value'"))
        server.stop()
        #expect(failure().contains("does not take the connection: Connection refused"))
    }
}
