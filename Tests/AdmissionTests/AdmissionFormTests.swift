/// The form of requests and answers, and their bounds.
import Cluster
import PullJSON
import Testing

@testable import Admission
@testable import Validation

@Suite struct AdmissionFormTests {
    /// Fields of a request may come in any order: the kind after the object.
    @Test func theOrderOfFieldsDecidesNothing() throws {
        let object = routeJSON(regexRule("/(a"))
        let text =
            #"{"request":{"object":\#(object),"oldObject":null,"operation":"CREATE","extra":[{"uid":"no"}],"#
            + #""kind":\#(httpRoute),"namespace":"shop","uid":"4f1c-7"},"#
            + #""apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#
        #expect(try !ask(text).allowed)
        #expect(try !ask(" \n" + text + "\n").allowed)
    }

    @Test func theAnswerSaysWhatItAnswers() throws {
        let request = try AdmissionRequest(reading: Array(review(routeJSON(goodRule)).utf8))
        #expect(request.operation == .create && request.kind == .httpRoute && request.kindName == "HTTPRoute")
        #expect(request.namespace == "shop" && request.name == "web" && !request.isSubresourceOrDryRun)
        let odd = review(routeJSON(goodRule)).replacing("4f1c-7", with: #"a\"b\\c\u0001"#)
        #expect(try Reply(answer(odd, cluster()).body).uid == "a\"b\\c\u{1}")
        #expect(
            String(decoding: answer(review(routeJSON(goodRule)), try cluster()).body, as: UTF8.self)
                == #"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","#
                + #""response":{"uid":"4f1c-7","allowed":true}}"#
        )
    }

    @Test(
        arguments: [
            ("", "a value was expected"), ("{", "a key"), ("[]", "no AdmissionReview"), ("{}", "no AdmissionReview"),
            (
                #"{"apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"a","operation":"CREATE"}}"#,
                "no AdmissionReview"
            ),
            (#"{"apiVersion":"admission.k8s.io/v1"}"#, "request is missing"),
            (#"{"apiVersion":"admission.k8s.io/v1","request":7}"#, "request is missing"),
            (#"{"apiVersion":"admission.k8s.io/v1","request":{}}"#, "request.uid is missing"),
            (#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":7}}"#, "request.uid is missing"),
            (#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"a"}}"#, "request.operation"),
            (#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"a","operation":"PATCH"}}"#, "request.operation"),
            (
                #"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"a","operation":"CREATE"}} x"#,
                "follows the value"
            ),
            (review("null"), "request.object is missing"), (review("7"), "request.object is missing"),
            (review(routeJSON("{]")), "JSON"),
            (
                review(routeJSON(goodRule)).replacing("4f1c-7", with: String(repeating: "x", count: 257)),
                "request.uid has"
            ),
            (review(String(repeating: "[", count: 200) + String(repeating: "]", count: 200)), "nested deeper"),
        ] as [(String, String)])
    func whatCannotBeReadGetsASentence(_ text: String, _ part: String) throws {
        let answer = answer(text, try cluster())
        #expect(answer.status == 400 && answer.contentType.hasPrefix("text/plain"))
        let sentence = String(decoding: answer.body, as: UTF8.self)
        #expect(sentence.hasPrefix("the AdmissionReview cannot be read: ") && sentence.contains(part), "\(sentence)")
        #expect(sentence.hasSuffix("\n") && sentence.utf8.count < 2048)
    }

    @Test func aRequestHasABound() throws {
        let padding = String(repeating: " ", count: AdmissionRequest.maximumBytes)
        #expect(answer(review(routeJSON(goodRule)) + padding, try cluster()).status == 400)
    }

    /// 4096 characters of warnings are passed on, 256 of each.
    @Test func warningsHaveBounds() throws {
        let name = String(repeating: "a-name-that-is-long.", count: 12) + "x"
        for (count, shown) in [(16, 16), (17, 16), (64, 16)] {
            let backends = (0..<min(count, 16)).map { #"{"name":"\#(name)\#($0)","port":80}"# }.joined(separator: ",")
            let rules = (0..<(count + 15) / 16).map { number in
                number == 0 || count != 17
                    ? #"{"matches":[{"path":{"value":"/\#(number)"}}],"backendRefs":[\#(backends)]}"#
                    : #"{"matches":[{"path":{"value":"/\#(number)"}}],"backendRefs":[{"name":"\#(name)","port":80}]}"#
            }
            let reply = try ask(review(routeJSON(rules.joined(separator: ","))))
            #expect(reply.allowed && reply.warnings.count == shown)
            #expect(reply.warnings.allSatisfy { $0.unicodeScalars.count <= AdmissionAnswer.maximumWarningLength })
            #expect(reply.warnings.reduce(0) { $0 + $1.unicodeScalars.count } <= 4096)
            #expect(reply.warnings.last?.hasPrefix("\(count - 15) more like these") == (count > 16))
            #expect(reply.warnings[0].hasSuffix("…"))
        }
    }
    @Test func aMessageHasABound() throws {
        let rules = (0..<16).map { regexRule("/(" + String(repeating: "é", count: 1000) + "\($0)") }
        let reply = try ask(review(routeJSON(rules.joined(separator: ","))))
        #expect(reply.message.unicodeScalars.count < 8 * 520 && reply.message.hasSuffix("; and 8 more"))
    }

    /// With a control character in it a warning would be lost.
    @Test func noControlCharacters() throws {
        let host =
            #"{"filters":[{"type":"a\u0007\n\u009b"}],"backendRefs":[{"name":"v1","port":80,"#
            + #""filters":[{"type":"\u001b[2J"}]}]}"#
        let reply = try ask(review(routeJSON(host), old: routeJSON(host)))
        let texts = reply.warnings + [reply.message]
        #expect(!reply.warnings.isEmpty)
        #expect(texts.allSatisfy { $0.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control } })
    }
}

extension AdmissionRequest {
    fileprivate var isSubresourceOrDryRun: Bool { isOfSubresource || isDryRun }
}
