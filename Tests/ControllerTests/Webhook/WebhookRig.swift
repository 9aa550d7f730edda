/// What the chart installs for the webhook, who writes to the API server, and who asks at the door as it does.
import FakeAPIServer
import FoundationEssentials
import Glibc
import TestSupport

@testable import Controller

let webhookHost = "heddle-controller.kube-system.svc"

extension FakeAPIServer {
    static let secret = "/api/v1/namespaces/kube-system/secrets/heddle-webhook"
    static let webhooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/heddle"
    static let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/heddle-controller"
    private static let routes = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes"

    /// As the chart makes them: empty, and without a bundle.
    func installWebhook() {
        store(Self.secret, #"{"type":"Opaque"}"#)
        installConfiguration()
    }
    func installConfiguration() {
        let rules = [("", #""services""#), ("gateway.networking.k8s.io", #""httproutes","grpcroutes""#)].map {
            #"{"apiGroups":["\#($0)"],"apiVersions":["v1"],"operations":["CREATE","UPDATE"],"resources":[\#($1)]}"#
        }
        let server = #""service":{"name":"heddle-controller","namespace":"kube-system","path":"/validate","port":443}"#
        store(
            Self.webhooks,
            #"{"webhooks":[{"name":"validate.heddle.io","failurePolicy":"Ignore","clientConfig":{\#(server)},"#
                + #""rules":[\#(rules.joined(separator: ","))]}]}"#)
    }
    /// One that was handed back: whoever asks leads at once.
    func freeLease() {
        store(Self.lease, #"{"spec":{"holderIdentity":"","leaseDurationSeconds":1}}"#)
    }

    /// `caBundle`, in PEM.
    var bundle: String {
        let text = (stored(Self.webhooks) ?? "").firstMatch(of: /"caBundle":"([^"]*)"/)?.1 ?? ""
        return String(decoding: Data(base64Encoded: String(text)) ?? Data(), as: UTF8.self)
    }
    var authorities: Int { bundle.ranges(of: "BEGIN CERTIFICATE").count }
    /// Of the Secret; nil: it has no such key.
    func kept(_ key: String) -> String? {
        let keys = (stored(Self.secret) ?? "").matches(of: /"([a-z.-]+)":"([A-Za-z0-9+\/=]*)"/)
        guard let match = keys.first(where: { $0.1 == key }) else { return nil }
        return String(decoding: Data(base64Encoded: String(match.2)) ?? Data(), as: UTF8.self)
    }

    /// As if a leader had made a certificate, and died in the middle of something.
    func keepCertificate() throws {
        let names = ["", ".kube-system", ".kube-system.svc", ".kube-system.svc.cluster.local"]
            .map { "heddle-controller" + $0 }
        let made = try WebhookIdentity.make(for: names, now: time(nil), lifetime: 86400 * 90)
        let data = WebhookSecret.makingCurrent(made, now: time(nil)).compactMap { key, value in
            value.map { "\"\(key)\":\"\(Data($0).base64EncodedString())\"" }
        }
        store(Self.secret, "{\"data\":{\"next.crt\":\"\",\(data.joined(separator: ","))}}")
    }

    /// Somebody edits the Secret's data.
    func damage(_ data: String) -> Bool {
        let answer = try? run([
            "curl", "--silent", "--noproxy", "*", "--request", "PATCH", "--header",
            "Content-Type: application/merge-patch+json", "--data", "{\"data\":\(data)}", "\(url)\(Self.secret)",
        ])
        return answer?.contains("heddle-webhook") == true
    }

    /// As `kubectl apply` of a route that is not there yet; the answer with its head.
    func write(_ route: String) throws -> String {
        try run(
            [
                "curl", "--silent", "--show-error", "--noproxy", "*", "--include", "--header",
                "Content-Type: application/json", "--data-binary", "@-", "\(url)\(Self.routes)",
            ], input: route)
    }
}

/// An HTTPRoute on Service default/web, with one rule.
func route(_ name: String = "r", _ rule: String = #"{"backendRefs":[{"name":"web","port":80}]}"#) -> String {
    #"{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"\#(name)","#
        + #""namespace":"default"},"spec":{"parentRefs":[{"group":"","kind":"Service","name":"web","port":80}],"#
        + #""rules":[\#(rule)]}}"#
}
let badRule =
    #"{"matches":[{"path":{"type":"RegularExpression","value":"/(a"}}],"backendRefs":[{"name":"web","port":80}]}"#
let lateRule = #"{"backendRefs":[{"name":"later","port":80}]}"#

/// A question about an HTTPRoute that comes.
func review(_ object: String) -> String {
    #"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"7","operation":"CREATE","#
        + #""kind":{"group":"gateway.networking.k8s.io","version":"v1","kind":"HTTPRoute"},"#
        + #""name":"r","namespace":"default","object":\#(object),"oldObject":null,"dryRun":false}}"#
}

/// Asks at `port` as an API server does that believes in `bundle`: the status, and what was said.
func ask(
    _ body: String, at port: UInt16, believing bundle: String, path: String = "/validate?timeout=30s",
    method: String = "POST"
) throws -> (status: Int, body: String) {
    let directory = try TemporaryDirectory()
    try writeText(bundle, to: directory.path + "/ca.pem")
    try writeText(body, to: directory.path + "/body")
    let text = try run([
        "curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", directory.path + "/ca.pem", "--connect-to",
        "\(webhookHost):443:127.0.0.1:\(port)", "--header", "Content-Type: application/json", "--request", method,
        "--data-binary", "@\(directory.path)/body", "--write-out", "\n%{http_code}", "https://\(webhookHost)\(path)",
    ])
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    return (lines.last.flatMap { Int($0) } ?? 0, lines.dropLast().joined(separator: "\n"))
}

/// As `eventually`, and leaves the thread to what is waited for, which runs in this process.
func until(_ what: String, _ condition: () throws -> Bool) async throws {
    try await eventually(what) { () async throws -> Bool in try condition() }
}
