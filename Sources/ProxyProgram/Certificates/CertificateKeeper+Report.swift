/// What people and Prometheus see of the certificates: never a key.
import CertificateAuthority
import Proxy
import Signing
import Synchronization
import Telemetry

extension CertificateKeeper {
    /// The answer to the question `certificates`.
    var report: [UInt8] {
        let now = effects.now()
        return state.withLock { state in
            let entries = state.plan.entries.sorted { "\($0.key)" < "\($1.key)" }.map { identity, entry in
                var fields = [
                    ("identity", jsonString(identity.description)),
                    ("state", jsonString(entry.state(at: now).rawValue)),
                ]
                if let facts = state.held[identity]?.chain.facts {
                    fields += [
                        ("serial", jsonString(facts.serial)), ("notBefore", "\(facts.notBefore)"),
                        ("notAfter", "\(facts.notAfter)"),
                    ]
                }
                if let problem = entry.problem { fields.append(("problem", jsonString(problem))) }
                return "{" + fields.map { "\"\($0.0)\":\($0.1)" }.joined(separator: ",") + "}"
            }
            let text = #"{"isConnected":\#(state.ask != nil),"entries":["# + entries.joined(separator: ",") + "]}"
            return Array(text.utf8)
        }
    }

    /// Nothing while no pod is enrolled.
    var metrics: String {
        let now = effects.now()
        return state.withLock { state in
            guard !state.plan.entries.isEmpty || state.issued + state.failed > 0 else { return "" }
            var counts: [String: Int] = ["missing": 0, "valid": 0, "overdue": 0, "expired": 0]
            for entry in state.plan.entries.values { counts[entry.state(at: now).rawValue, default: 0] += 1 }
            var text = metricHead(
                "certificates", "gauge", "Identities of this node's enrolled pods, by their certificates.")
            for (name, count) in counts.sorted(by: { $0.key < $1.key }) {
                text += "heddle_proxy_certificates{state=\"\(name)\"} \(count)\n"
            }
            text += metricHead("certificate_requests_total", "counter", "Certificates asked for, by what came of it.")
            text += "heddle_proxy_certificate_requests_total{result=\"issued\"} \(state.issued)\n"
            text += "heddle_proxy_certificate_requests_total{result=\"failed\"} \(state.failed)\n"
            if let end = state.held.values.map(\.credential.notAfter).min() {
                text += metricHead(
                    "certificate_first_end_seconds", "gauge", "When the first certificate ends, since 1970.")
                text += "heddle_proxy_certificate_first_end_seconds \(end)\n"
            }
            return text
        }
    }
}
