/// The answer to the API server, within what it passes on: of all warnings together 4096 characters, of each 256, none
/// of them a control character, which would lose the warning.
package import Compile
import PullJSON
package import Validation

package struct AdmissionAnswer: Sendable {
    package enum Outcome: Equatable, Sendable {
        case allowed(warnings: Int)
        case refused(String)
        /// With a status of 400: what then becomes of the object is the configuration's `failurePolicy`.
        case unreadable(String)
    }
    package let outcome: Outcome
    package let body: [UInt8]

    package var status: Int { isReview ? 200 : 400 }
    package var contentType: String { isReview ? "application/json" : "text/plain; charset=utf-8" }
    private var isReview: Bool { if case .unreadable = outcome { false } else { true } }

    package static let maximumWarnings = 16
    package static let maximumWarningLength = 256
    private static let maximumRefusals = 8

    /// To a request as it came.
    package init(to bytes: [UInt8], against set: ObjectSet, options: CompilerOptions = CompilerOptions()) {
        do throws(AdmissionError) {
            let request = try AdmissionRequest(reading: bytes)
            self.init(request, AdmissionVerdict(request, against: set, options: options))
        } catch {
            self.init(unreadable: "the AdmissionReview cannot be read: \(error)")
        }
    }
    private init(unreadable sentence: String) {
        outcome = .unreadable(sentence)
        body = Array((oneLine(sentence, 1024) + "\n").utf8)
    }

    package init(_ request: AdmissionRequest, _ verdict: AdmissionVerdict) {
        let warnings = Self.texts(of: verdict.warnings)
        var json = Array(#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"#.utf8)
        json.append(field: "uid", request.uid)
        json.append(key: "allowed")
        json.append(verdict.isAllowed ? "true" : "false")
        if verdict.isAllowed {
            outcome = .allowed(warnings: verdict.warnings.count)
        } else {
            let message = Self.message(verdict.refusals)
            outcome = .refused(message)
            json.append(#","status":{"status":"Failure","code":422,"reason":"Invalid","#)
            json.append(quoted: "message")
            json.append(":")
            json.append(quoted: message)
            json.append("}")
        }
        if !warnings.isEmpty {
            json.append(key: "warnings")
            json.append(
                list: warnings.map { text in
                    var quoted: [UInt8] = []
                    quoted.append(quoted: text)
                    return quoted
                })
        }
        json.append("}}")
        body = json
    }

    private static func message(_ refusals: [Judgement]) -> String {
        let texts = refusals.prefix(maximumRefusals).map { oneLine("\($0.field): \($0.message) (\($0.code))", 512) }
        let more = refusals.count - texts.count
        let object = refusals.first.map { "\($0.object): " } ?? ""
        return object + (texts + (more > 0 ? ["and \(more) more"] : [])).joined(separator: "; ")
    }

    private static func texts(of judgements: [Judgement]) -> [String] {
        let shown = judgements.count > maximumWarnings ? maximumWarnings - 1 : judgements.count
        let texts = judgements.prefix(shown).map {
            oneLine("\($0.object): \($0.field): \($0.message) (\($0.code))", maximumWarningLength)
        }
        let more = judgements.count - shown
        return texts + (more > 0 ? ["\(more) more like these; agentctl analyze names them all"] : [])
    }
}

/// Without control characters, and of at most so many characters as Kubernetes counts them.
private func oneLine(_ text: String, _ limit: Int) -> String {
    var result = String.UnicodeScalarView()
    var count = 0
    for scalar in text.unicodeScalars {
        guard count < limit else {
            result.removeLast()
            result.append("…")
            break
        }
        result.append(scalar.properties.generalCategory == .control ? " " : scalar)
        count += 1
    }
    return String(result)
}
