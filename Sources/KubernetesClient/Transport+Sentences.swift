/// What an answer says that is not what was wanted, and what an error means, as sentences.
import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import NIOSSL
import PullJSON

extension APIStatus {
    /// What an answer that is not 200 says.
    init(of response: HTTPClientResponse) async {
        self.init(code: Int(response.status.code))
        if let text = response.headers.first(name: "Retry-After"), let seconds = Int64(text), seconds >= 0 {
            retryAfter = .seconds(min(seconds, 3600))
        }
        var body: [UInt8] = []
        do {
            for try await chunk in response.body {
                body.append(contentsOf: chunk.readableBytesView)
                if body.count > 1 << 16 { break }
            }
        } catch {
            // The code alone must do.
        }
        add(body: body)
    }
}

extension Transport {
    func sentence(for error: any Error) -> String {
        switch error {
        case let error as AccessError: "cannot be asked: \(error)"
        case let error as JSONError: "sent something that is \(error)"
        case is LineFramer.TooLong, ListFramer.Malformed.tooLong: "sent an object of more than 8 MiB"
        case ListFramer.Malformed.notAList: "sent something that is no list of objects"
        case let error as HTTPClientError: "cannot be reached: \(error.shortDescription)"
        case let error as NIOSSLExtraError where error == .failedToValidateHostname:
            "cannot be trusted: \(access.foreignCertificateSentence)"
        case NIOSSLError.handshakeFailed(let reason): tlsSentence("\(reason)")
        default: "cannot be reached: \(error)"
        }
    }

    private func tlsSentence(_ reason: String) -> String {
        if reason.contains("CERTIFICATE_VERIFY_FAILED") {
            "cannot be trusted: its certificate has expired, or is not signed by the certificate authority we know; "
                + "compare certificate-authority with the server's"
        } else if reason.contains("WRONG_VERSION_NUMBER") || reason.contains("HTTP_REQUEST") {
            "cannot be reached: its port does not speak TLS; write http:// in its address, or another port"
        } else {
            "cannot be reached: the TLS handshake failed: \(reason)"
        }
    }
}
