/// An authority in a directory, for nodes without a cluster: `ca-cert.pem` and `ca-key.pem` sign, `root-cert.pem` is
/// believed, `cert-chain.pem` (if there) stands between; Istio's names. Several agents of one machine share it. All is
/// read again each time, so that whoever changes the files changes the authority: first a second root is added to
/// root-cert.pem, then the other two are replaced, and a certificate's life later the old root is taken out.
import AuthorityClient
import CertificateAuthority
import Daemon
import Glibc
import Posix
import Signing

struct DirectoryAuthority: CertificateSource {
    private static let rootLife = 10 * 365 * 86_400
    private let path: String
    private let life: Int

    /// Makes what is not there yet.
    init(_ path: String, life: Int) throws(StartupError) {
        (self.path, self.life) = (path, life)
        hideMemory()
        try ProcessSetup.makeDirectory(path, mode: 0o700, purpose: "directory of the authority", option: "--ca")
        do {
            try makeOnce()
            _ = try authority(at: time(nil))
        } catch {
            throw StartupError("the authority in \(path) cannot be used: \(error); pass another --ca directory:DIR")
        }
    }

    func roots() throws(CertificateFault) -> [String] {
        do { return [try text("root-cert.pem")] } catch { throw CertificateFault("\(error)") }
    }

    func certificate(csr: String, for identity: WorkloadIdentity) async throws(CertificateFault) -> [String] {
        do {
            let now = time(nil)
            let authority = try authority(at: now)
            let leaf = try authority.issue(
                SigningRequest(pem: csr), to: identity, notBefore: now, notAfter: now + life)
            return [leaf.pem] + authority.chain
        } catch let refusal as Refusal {
            throw CertificateFault(refusal.sentence)
        } catch {
            throw CertificateFault("the authority in \(path) signs nothing: \(error)")
        }
    }

    private func authority(at now: Int) throws -> Authority {
        let key = try SigningKey(pem: Array(text("ca-key.pem").utf8))
        let between = readSmallFile("\(path)/cert-chain.pem")
        return try Authority(
            certificate: text("ca-cert.pem"), key: key, above: [between, text("root-cert.pem")].compactMap(\.self),
            at: now)
    }

    private func text(_ name: String) throws(PosixError) -> String {
        String(decoding: try readFile("\(path)/\(name)", limit: 256 * 1024), as: UTF8.self)
    }

    /// One agent makes it, the others of the machine wait for that. The key comes last: once it is there, all is.
    private func makeOnce() throws {
        let lock = open("\(path)/lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard lock >= 0 else { throw PosixError.errno("open \(path)/lock") }
        defer { close(lock) }
        while flock(lock, LOCK_EX) != 0 {
            guard errno == EINTR else { throw PosixError.errno("lock \(path)/lock") }
        }
        guard access("\(path)/ca-key.pem", F_OK) != 0 else { return }
        guard access("\(path)/ca-cert.pem", F_OK) != 0 else {
            throw StartupError("\(path) has a ca-cert.pem and no ca-key.pem")
        }
        let now = time(nil)
        let root = try Authority.root(name: "Heddle root", notBefore: now, notAfter: now + Self.rootLife)
        try write(Array(root.facts.pem.utf8), "root-cert.pem")
        try write(Array(root.facts.pem.utf8), "ca-cert.pem")
        try write(root.key.pem, "ca-key.pem")
    }

    private func write(_ bytes: [UInt8], _ name: String) throws(PosixError) {
        try DurableFile("\(path)/\(name)").replace { (put) throws(PosixError) in try put(bytes) }
    }
}
