/// What is set on the node, from options to sysctls (spec rows 132, 133, 186, 187), and the check of port ranges (row
/// 97).
import Options
import Testing

@testable import Agent

@Suite struct ConntrackSettingsTests {
    private func values(_ arguments: String..., cores: Int = 2) throws -> [String: Int] {
        let host = AgentConfiguration.Host(
            hostName: "n", environment: [:], readFile: { _ throws(ConfigurationError) in [] })
        let configuration = try AgentConfiguration.parse(arguments: arguments, host: host, needsSource: false)
        return Dictionary(
            uniqueKeysWithValues: configuration.conntrack.sysctls(cores: cores).map { ($0.name, $0.value) })
    }

    @Test func rows186And187_defaults() throws {
        #expect(
            try values() == [
                "nf_conntrack_max": 131_072, "nf_conntrack_tcp_timeout_established": 86400,
                "nf_conntrack_tcp_timeout_close_wait": 3600,
            ])
        #expect(try values(cores: 16)["nf_conntrack_max"] == 16 * 32768)
    }

    @Test func rows132And187_zeroLeavesAlone() throws {
        let all = try values(
            "--conntrack-max-per-core", "0", "--conntrack-tcp-timeout-established", "0",
            "--conntrack-tcp-timeout-close-wait", "0")
        #expect(all.isEmpty)
        let udp = try values(
            "--conntrack-udp-timeout", "45s", "--conntrack-udp-timeout-stream=3m", "--conntrack-tcp-be-liberal")
        #expect(udp["nf_conntrack_udp_timeout"] == 45 && udp["nf_conntrack_udp_timeout_stream"] == 180)
        #expect(udp["nf_conntrack_tcp_be_liberal"] == 1)
    }

    @Test(arguments: ["-1", "many", "99999999999"]) func aBadLimitIsRefused(_ text: String) {
        let error = #expect(throws: ConfigurationError.self) { try values("--conntrack-min", text) }
        #expect(error?.description.contains("--conntrack-min") == true)
    }

    @Test(arguments: [
        ("32768\t60999", "", false), ("15000 60999", "", true), ("15000 60999", "30000-32767", false),
        ("15000 60999", "8080,30000-31000,31001-32767", false), ("15000 60999", "30000-32766", true),
        ("32000 60999", "", true), ("", "", false),
    ])
    func row97_outgoingPortsAmongTheNodePorts(_ ephemeral: String, _ reserved: String, _ warns: Bool) {
        #expect((PortRanges.nodePortWarning(ephemeral: ephemeral, reserved: reserved) != nil) == warns)
    }
}
