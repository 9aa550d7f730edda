/// The service as gRPC clients see it: its path, and the code of each refusal.
import AdminServer
import CertificateAuthority

extension CertificateService {
    private static let path = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

    /// `calls` runs the answers.
    func responder(_ calls: GRPCCalls) -> HTTPResponder {
        { request, reply in
            guard request.path == Self.path else {
                let sentence = "there is no \(shown(request.path)) here, only \(Self.path)"
                return reply(GRPCFailure(code: .unimplemented, message: sentence).response)
            }
            calls.answerUnary(request, reply: reply) { message in
                await self.certificate(
                    for: message, authorization: request.header("authorization"), peer: request.peer
                ).mapError(GRPCFailure.init)
            }
        }
    }
}

extension GRPCFailure {
    init(_ refusal: Refusal) {
        let code: GRPCCode =
            switch refusal.reason {
            case .notAuthenticated, .wrongAudience: .unauthenticated
            case .notAServiceAccount, .notBoundToAPod, .podIsAnother, .mayNotImpersonate, .notOnNode: .permissionDenied
            case .badIdentity, .badRequest: .invalidArgument
            case .tooMany: .resourceExhausted
            // The watch of pods is a moment behind: the same request passes soon.
            case .podUnknown, .notReady: .unavailable
            }
        self.init(code: code, message: refusal.sentence)
    }
}
