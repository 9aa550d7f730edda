/// Wire types as HTTP bodies.
import AdminAPI
package import AdminServer
import FoundationEssentials

package func jsonResponse(_ value: some Encodable, status: Int = 200) -> HTTPResponse {
    HTTPResponse(status: status, contentType: "application/json", body: toJSON(value))
}

package func toJSON(_ value: some Encodable) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // Our wire types hold nothing that JSON cannot say.
    return (try? encoder.encode(value)).map { Array($0) } ?? Array("{}".utf8)
}

package func failureResponse(_ sentence: String, status: Int = 400) -> HTTPResponse {
    jsonResponse(AdminFailure(sentence), status: status)
}

/// nil: it is something else.
package func fromJSON<Value: Decodable>(_ type: Value.Type, _ body: [UInt8]) -> Value? {
    try? JSONDecoder().decode(type, from: Data(body))
}
