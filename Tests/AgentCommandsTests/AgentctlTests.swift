// Exit statuses: 0 success, 1 failure, 2 wrong usage.
import Testing

@testable import AgentCommands

@Suite struct AgentctlTests {
    @Test(
        arguments: [
            (["--help"], 0), (["status", "--help"], 0), (["nope"], 2), (["status", "-o", "xml"], 2),
            (["endpoints", "no-slash"], 2), (["endpoints"], 2), (["status", "--wait", "soon"], 2),
            (["status", "--api-socket", "/nonexistent/agent.sock"], 1),
            (["verify", "--api-socket", "/nonexistent/agent.sock"], 1), (["routes"], 1),
            (["sockets"], 2), (["sockets", "--stale", "--api-socket", "/nonexistent/agent.sock"], 1),
        ] as [([String], Int32)])
    func exitStatus(_ arguments: [String], _ expected: Int32) {
        #expect(AgentctlProgram.run(arguments) == expected)
    }

    @Test(
        arguments: [
            ("0", 0), ("30", 30_000), ("30s", 30_000), ("500ms", 500), ("1m30s", 90_000), ("1h", 3_600_000),
            ("1.5s", 1500), ("soon", nil), ("", nil), ("-1", nil), ("1.5", nil), ("999999h999999h999999h", nil),
        ] as [(String, Int?)])
    func timesAreWrittenAsInTheAgentsOptions(_ text: String, _ milliseconds: Int?) {
        #expect(WaitTime(argument: text)?.duration == milliseconds.map { .milliseconds($0) })
    }

    @Test func theRemedyIsInTheSentence() {
        let client = AdminClient(socket: "/nonexistent/agent.sock")
        let error = #expect(throws: CommandFailure.self) { try client.get("/status") }
        #expect(error?.description.contains("/nonexistent/agent.sock") == true)
        #expect(error?.description.contains("start heddle-agent") == true)
    }
}
