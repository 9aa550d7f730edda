// Private keys stay where they are, and are read however others write them.
import Signing
import TestSupport
import Testing

@Suite struct SigningKeyTests {
    @Test func aKeyShowsItselfToNobody() throws {
        let key = SigningKey.generate()
        let authority = try Authority.root(name: "root", notBefore: now, notAfter: now + day)
        for (key, holder) in [(key, [key] as Any), (authority.key, authority)] {
            let secret = String(decoding: key.pem, as: UTF8.self).split(separator: "\n")[1]
            var dumped = ""
            dump(holder, to: &dumped)
            for text in ["\(holder)", String(reflecting: holder), dumped] {
                #expect(!text.contains(secret) && text.contains("a private key"))
            }
        }
    }

    @Test func aKeyIsReadAsItIsWritten() throws {
        let key = SigningKey.generate()
        #expect(try SigningKey(pem: key.pem).pem == key.pem)
    }

    @Test(
        .enabled(if: hasOpenSSL, "openssl"),
        arguments: [
            "ecparam -name prime256v1 -genkey", "ecparam -name secp384r1 -genkey -noout",
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384", "genrsa -traditional 2048", "genrsa 3072",
        ])
    func openSSLsKeysAreRead(_ command: String) throws {
        let pem = try run(["openssl"] + command.split(separator: " ").map(String.init)).dropping(before: "-----BEGIN")
        let key = try SigningKey(pem: Array(pem.utf8))
        #expect(try SigningKey(pem: key.pem).pem == key.pem)
        let authority = try Authority.root(name: "root", notBefore: now, notAfter: now + day)
        let leaf = try authority.issueServer(names: ["a.b"], key: key, notBefore: now, notAfter: now + day)
        let shelf = try Shelf()
        try shelf.write(pem, to: "key.pem")
        #expect(try shelf.openssl("x509 -noout -pubkey", input: leaf) == shelf.openssl("pkey -pubout -in key.pem."))
    }

    @Test func whatIsNoKeyIsNotShown() throws {
        let secret = "c2VjcmV0c2VjcmV0c2VjcmV0"
        for label in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "CERTIFICATE"] {
            do {
                _ = try SigningKey(pem: Array("-----BEGIN \(label)-----\n\(secret)\n-----END \(label)-----\n".utf8))
                Issue.record("it was taken")
            } catch { #expect(!"\(error)".contains(secret) && !"\(error)".contains("secret"), "\(error)") }
        }
        let key = SigningKey.generate().pem
        for bad in [[], key + key, Array(key.dropLast(30)), Array(repeating: 0x2d, count: 40000)] {
            #expect(throws: SigningError.self) { _ = try SigningKey(pem: bad) }
        }
    }
}
