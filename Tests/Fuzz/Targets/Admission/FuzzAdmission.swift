/// Fuzzes the webhook's whole answer: whatever comes, it is a sentence or a review that the API server can read, within
/// what that passes on.
import Addressing
import Admission
import Cluster
import FuzzSupport
import PullJSON
import Validation

@main enum FuzzAdmission: Fuzzer {
    static func fuzz(_ bytes: [UInt8]) {
        let answer = AdmissionAnswer(to: bytes, against: shop)
        switch answer.outcome {
        case .unreadable:
            precondition(answer.status == 400 && answer.body.count < 8192, "a sentence without a bound")
        case .allowed, .refused:
            guard let request = try? AdmissionRequest(reading: bytes), let reply = try? Reply(answer.body) else {
                preconditionFailure("a review that nobody can read")
            }
            precondition(answer.status == 200 && reply.uid == request.uid, "an answer to something else")
            let isQuestion = request.operation == .create || request.operation == .update
            precondition(reply.allowed || isQuestion, "only what comes can be refused")
            precondition(reply.warnings <= AdmissionAnswer.maximumWarnings, "too many warnings")
        }
    }
}

private let shop: ObjectSet = {
    var set = ObjectSet(complete: [.service])
    for (number, name) in ["web", "v1"].enumerated() {
        var service = Service(name: ObjectName("shop", name))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001 + UInt32(number))]
        service.ports = [Service.Port(name: "http", port: 80)]
        set.add(.service(service))
    }
    return set
}()

private struct Reply {
    var uid = ""
    var allowed = false
    var warnings = 0

    init(_ body: [UInt8]) throws(JSONError) {
        var reader = JSONReader(body.span)
        try reader.enterObject()
        while let key = try reader.nextKey() {
            guard reader.text(of: key) == "response" else {
                _ = try reader.readText()
                continue
            }
            try reader.enterObject()
            while let key = try reader.nextKey() {
                switch reader.text(of: key) {
                case "uid": uid = try reader.readText()
                case "allowed": allowed = try reader.readBoolean()
                case "warnings":
                    try reader.enterArray()
                    while try reader.nextElement() {
                        let isShort = try reader.readText().unicodeScalars.count <= AdmissionAnswer.maximumWarningLength
                        precondition(isShort, "a warning that would be cut")
                        warnings += 1
                    }
                default: try reader.skipValue()
                }
            }
        }
        try reader.finish()
    }
}
