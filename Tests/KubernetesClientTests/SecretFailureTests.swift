/// What a server says of a Secret that it does not take may quote the Secret.
import FakeAPIServer
import Testing

@testable import KubernetesClient

@Suite struct SecretFailureTests {
    @Test(arguments: [400, 403, 409, 413, 422, 429, 500])
    func noFailureQuotesASecret(code: Int) async throws {
        try await withWriter { server, writer in
            for (kind, isQuoted) in [("Secret", false), ("ConfigMap", true)] {
                let object = ObjectAddress(
                    group: "", plural: kind.lowercased() + "s", kind: kind, namespace: "n", name: "s")
                server.store(object.path, "{}")
                server.failWrites(.status(code, reason: "Invalid", message: "denied: data: apple"))
                let outcome = await writer.setData(
                    ["a": Array("apple".utf8)], of: object, resourceVersion: nil, fence: nil)
                guard case .failed(let failure) = outcome else {
                    Issue.record("it was written")
                    return
                }
                #expect(failure.sentence.contains("\(code)") && failure.sentence.contains("apple") == isQuoted)
            }
        }
    }

    @Test(arguments: [400, 403, 409, 413, 422, 429, 500])
    func norAToken(code: Int) {
        let review = ObjectAddress(
            group: "authentication.k8s.io", plural: "tokenreviews", kind: "TokenReview", name: "")
        let failure = APIFailure(APIStatus(code: code, message: "denied: apple"), verb: "create", review)
        #expect(failure.sentence.contains("\(code)") && !failure.sentence.contains("apple"))
    }
}
