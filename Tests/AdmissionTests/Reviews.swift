/// AdmissionReviews as an API server writes them, and answers as it reads them.
import Cluster
import PullJSON
import Testing

@testable import Admission
@testable import Validation

let httpRoute = #"{"group":"gateway.networking.k8s.io","version":"v1","kind":"HTTPRoute"}"#
let service = #"{"group":"","version":"v1","kind":"Service"}"#

/// `name`: nil: none was made yet.
func routeJSON(
    _ rules: String, name: String? = "web", parent: String = #"{"group":"","kind":"Service","name":"web"}"#,
    metadata: String = "", spec: String = ""
) -> String {
    let name = name.map { #""name":"\#($0)""# } ?? #""generateName":"web-""#
    return
        #"{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","#
        + #""metadata":{\#(name),"namespace":"shop"\#(metadata)},"#
        + #""spec":{"parentRefs":[\#(parent)],"rules":[\#(rules)]\#(spec)}}"#
}
let goodRule = #"{"backendRefs":[{"name":"v1","port":80}]}"#
func regexRule(_ pattern: String) -> String {
    #"{"matches":[{"path":{"type":"RegularExpression","value":"\#(pattern)"}}],"#
        + #""backendRefs":[{"name":"v1","port":80}]}"#
}

func review(
    _ object: String, old: String = "null", kind: String = httpRoute, operation: String? = nil, more: String = ""
) -> String {
    let operation = operation ?? (old == "null" ? "CREATE" : "UPDATE")
    return #"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"4f1c-7","kind":\#(kind),"#
        + #""name":"web","namespace":"shop","operation":"\#(operation)","userInfo":{"username":"ada","groups":["a"]},"#
        + #""object":\#(object),"oldObject":\#(old),"dryRun":false,"options":{"kind":"CreateOptions"}\#(more)}}"#
}

/// What came back.
struct Reply {
    var uid = ""
    var allowed = false
    var code: Int64?
    var reason = ""
    var message = ""
    var warnings: [String] = []

    init(_ body: [UInt8]) throws {
        var reader = JSONReader(body.span)
        try reader.enterObject()
        while let key = try reader.nextKey() {
            guard reader.text(of: key) == "response" else {
                let text = try reader.readText()
                #expect(["admission.k8s.io/v1", "AdmissionReview"].contains(text))
                continue
            }
            try reader.enterObject()
            while let key = try reader.nextKey() {
                switch reader.text(of: key) {
                case "uid": uid = try reader.readText()
                case "allowed": allowed = try reader.readBoolean()
                case "warnings":
                    try reader.enterArray()
                    while try reader.nextElement() { warnings.append(try reader.readText()) }
                case "status":
                    try reader.enterObject()
                    while let key = try reader.nextKey() {
                        switch reader.text(of: key) {
                        case "code": code = try reader.readInteger()
                        case "reason": reason = try reader.readText()
                        case "message": message = try reader.readText()
                        default: try reader.skipValue()
                        }
                    }
                default: Issue.record("an unknown field")
                }
            }
        }
        try reader.finish()
    }
}

/// Services web and v1, with whatever else is given.
func cluster(_ others: [ClusterObject] = []) throws -> ObjectSet {
    var set = ObjectSet(complete: [.service, .endpointSlice])
    for name in ["web", "v1"] {
        let slice =
            #"{"metadata":{"name":"\#(name)","namespace":"shop","labels":{"kubernetes.io/service-name":"\#(name)"}},"#
            + #""addressType":"IPv4","ports":[{"name":"http","port":80}],"endpoints":[{"addresses":["10.1.0.1"]}]}"#
        set.add(try decoded(.service, serviceJSON(name)))
        set.add(try decoded(.endpointSlice, slice))
    }
    for object in others { set.add(object) }
    return set
}
func serviceJSON(_ name: String, metadata: String = "", spec: String = "") -> String {
    #"{"apiVersion":"v1","kind":"Service","metadata":{"name":"\#(name)","namespace":"shop"\#(metadata)},"#
        + #""spec":{"clusterIP":"10.96.0.\#(name.utf8.reduce(0) { ($0 + Int($1)) % 250 } + 1)","#
        + #""ports":[{"name":"http","port":80}]\#(spec)}}"#
}
func decoded(_ kind: ObjectKind, _ json: String) throws -> ClusterObject {
    let bytes = Array(json.utf8)
    var decoder = ObjectDecoder()
    var reader = JSONReader(bytes.span)
    return try decoder.decode(kind, json: &reader)
}

func answer(_ text: String, _ set: ObjectSet) -> AdmissionAnswer { AdmissionAnswer(to: Array(text.utf8), against: set) }
func ask(_ text: String, _ set: ObjectSet? = nil) throws -> Reply {
    let answer = answer(text, try set ?? cluster())
    try #require(answer.status == 200, "\(String(decoding: answer.body, as: UTF8.self))")
    let reply = try Reply(answer.body)
    #expect(reply.uid == "4f1c-7" && answer.contentType == "application/json")
    switch answer.outcome {
    case .allowed(let warnings): #expect(reply.allowed && reply.code == nil && warnings >= reply.warnings.count)
    case .refused(let message): #expect(!reply.allowed && reply.code == 422 && reply.message == message)
    case .unreadable: Issue.record("a status of 200 for what cannot be read")
    }
    return reply
}
