// What listens with TLS: certificates that change while it runs, and handshakes that are never finished.
import Glibc
import TestSupport
import Testing

@testable import AdminServer

@Suite struct TLSTests {
    @Test(arguments: ["--http1.1", "--http2"]) func requestsComeWithHeadersAndBodies(version: String) async throws {
        let certificate = try DoorCertificate()
        try await Door.with(certificate) { door in
            let answer = try door.curl(
                certificate, version, "-H", "X-Name: a", "-d", "some body", "-w", " %{http_version}", path: "/b")
            #expect(answer == "POST /b a 127.0.0.1 some body \(version == "--http2" ? "2" : "1.1")")
            #expect(try door.curl(certificate, version, "-I").contains(" 200"))
        }
    }

    @Test func whatIsServedMayChange() async throws {
        let (first, second) = (try DoorCertificate(), try DoorCertificate())
        try await Door.with(nil) { door in
            let early = try connectTCP(door.port)
            #expect(isClosed(early), "there is nothing to show yet")
            close(early)
            for certificate in [first, second, first] {
                try door.certificate.set(chain: certificate.chain, key: certificate.key)
                #expect(try door.curl(certificate).hasPrefix("GET /"))
            }
            #expect(throws: TestFailure.self) { try door.curl(second) }
            // What is no good takes nothing away.
            #expect(throws: ServedCertificateError.self) {
                try door.certificate.set(chain: second.chain, key: Array("no key".utf8))
            }
            #expect(throws: ServedCertificateError.self) {
                try door.certificate.set(chain: second.chain, key: first.key)
            }
            #expect(try door.curl(first).hasPrefix("GET /"))
        }
    }

    @Test func nothingOfTheKeyIsShown() throws {
        let (certificate, served) = (try DoorCertificate(), ServedCertificate())
        try served.set(chain: certificate.chain, key: certificate.key)
        var dumped = ""
        dump(served, to: &dumped)
        #expect(dumped + "\(served)" == "- ServedCertificate #0\nServedCertificate")
    }

    @Test(arguments: ["", "\u{16}\u{3}\u{1}", "GET / HTTP/1.1\r\n\r\n"])
    func aHandshakeHasToBeFinished(_ text: String) async throws {
        var limits = ConnectionLimits()
        limits.request = .milliseconds(50)
        try await Door.with(try DoorCertificate(), limits) { door in
            let descriptor = try connectTCP(door.port)
            defer { close(descriptor) }
            _ = write(descriptor, text, text.utf8.count)
            #expect(isClosed(descriptor))
            // Plain HTTP is no handshake at all.
            if !text.hasPrefix("GET") { try eventually("it is counted") { door.shed == [.slowRequest] } }
        }
    }

    /// TLS reads on until its farewell is out: what comes then is nobody's, and must not count for ever.
    @Test func whoWasTurnedOutHoldsNothing() async throws {
        var limits = ConnectionLimits()
        (limits.requestBytes, limits.heldBytes) = (10_000, 40_000)
        let certificate = try DoorCertificate()
        try await Door.with(certificate, limits) { door in
            let large = "@" + certificate.folder.path + "/large"
            try writeText(String(repeating: "x", count: 500_000), to: String(large.dropFirst()))
            for _ in 0..<20 {
                #expect(throws: TestFailure.self) {
                    try door.curl(certificate, "--http1.1", "-H", "Expect:", "--data-binary", large)
                }
            }
            #expect(try door.curl(certificate, "--http1.1", "-d", "small").hasSuffix("small"))
            #expect(Set(door.shed) == [.largeRequest])
        }
    }

    @Test func oneAddressMayNotHaveThemAll() async throws {
        var limits = ConnectionLimits()
        limits.connectionsPerPeer = 4
        try await Door.with(try DoorCertificate(), limits) { door in
            let other = try connectTCP(door.port, from: 2)
            let many = try (0..<12).map { _ in try connectTCP(door.port) }
            defer { for descriptor in [other] + many { close(descriptor) } }
            try eventually("its oldest make room") { door.shed == Array(repeating: .tooMany, count: 8) }
            for descriptor in many.prefix(8) { #expect(isClosed(descriptor)) }
            #expect(recv(other, nil, 0, Int32(MSG_DONTWAIT)) < 0 && errno == EAGAIN)
        }
    }

    @Test func handshakesCountAsConnections() async throws {
        var limits = ConnectionLimits()
        limits.connections = 4
        let certificate = try DoorCertificate()
        try await Door.with(certificate, limits) { door in
            let idle = try (0..<40).map { _ in try connectTCP(door.port) }
            defer { for descriptor in idle { close(descriptor) } }
            for _ in 0..<3 { #expect(try door.curl(certificate).hasPrefix("GET /")) }
            #expect(isClosed(idle[0]))
            #expect(door.shed.count >= 36 && Set(door.shed) == [.tooMany])
        }
    }
}
