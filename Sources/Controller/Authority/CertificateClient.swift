/// `heddle-controller request-certificate`: asks an authority as a workload does, with a key that nobody keeps. For
/// `helm test`, and for people who ask why there is no certificate.
import AuthorityClient
import CertificateAuthority
import Glibc
import Options
import Posix
import Signing

struct CertificateClient: Equatable, Sendable {
    var authority = "heddle-controller:15012"
    var tokenFile = "/var/run/secrets/heddle-ca/token"
    var rootsFile = "/etc/heddle/ca/root-cert.pem"
    var within = 10

    static let options: OptionTable<CertificateClient> = {
        var table = OptionTable(program: "heddle-controller request-certificate", defaults: CertificateClient())
        table.add("authority", .text("HOST:PORT", wanted: "HOST:PORT"), \.authority, "whom to ask")
        table.add("token-file", .path(), \.tokenFile, "the pod's own token, for the audience heddle-ca")
        table.add("roots-file", .path(), \.rootsFile, "whom to believe")
        table.add("within", .number(0...3600, "SECONDS"), \.within, "it is tried again until then")
        return table
    }()

    static var usage: String {
        """
        usage: heddle-controller request-certificate [options]   ask for a certificate, and throw it away

        Example:
          heddle-controller request-certificate --authority heddle-controller.kube-system.svc:15012

        options:

        """ + options.help
    }

    /// What was issued, in one line.
    func run() async throws(CertificateFault) -> String {
        let call = AuthorityCall(authority)
        defer { call.end() }
        let end = ContinuousClock.now + .seconds(within)
        while true {
            do {
                return try await ask(call)
            } catch {
                guard ContinuousClock.now < end else { throw error }
            }
            try? await Task.sleep(for: .seconds(1))
        }
    }

    private func ask(_ call: AuthorityCall) async throws(CertificateFault) -> String {
        let (token, roots) = (try credential(in: tokenFile), try credential(in: rootsFile))
        let key = SigningKey.generate()
        let now = Glibc.time(nil)
        let csr: String
        do { csr = try key.request(uris: []) } catch { throw CertificateFault(error.sentence) }
        let chain = try await call.certificate(csr: csr, token: token, roots: roots)
        guard key.isKey(of: chain[0]), let leaf = try? certificates(inPEM: chain[0]).first else {
            throw CertificateFault("\(authority) gives a certificate that is not for the key that was sent")
        }
        if let fault = verify(chain: chain, roots: roots, at: now) {
            throw CertificateFault("\(authority) gives a certificate that is of no use: \(fault)")
        }
        return "\(leaf.uris.joined(separator: ", ")): serial \(leaf.serial), for \((leaf.notAfter - now) / 3600) h, "
            + "\(chain.count - 1) certificates above it, and a root of \(rootsFile)\n"
    }
}
