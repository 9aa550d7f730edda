/// l7-behaviour §3.7: requests as others' Protocol Buffers write them, and whatever else a peer may send. The bytes
/// named `golden` were written by Google's implementation for Python.
import TestSupport
import Testing

@testable import CertificateAuthority

private func bytes(_ hex: String) throws -> [UInt8] {
    let digits = hex.compactMap(\.hexDigitValue)
    try #require(digits.count == hex.count && digits.count % 2 == 0)
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

private func read(_ bytes: [UInt8]) -> Result<CertificateRequest, Refusal> {
    do throws(Refusal) { return .success(try CertificateRequest(bytes.span)) } catch { return .failure(error) }
}

private func refusal(_ bytes: [UInt8]) -> Refusal? {
    if case .failure(let refusal) = read(bytes) { return refusal }
    return nil
}

/// A field of bytes.
private func field(_ number: UInt8, _ content: [UInt8]) -> [UInt8] {
    [number << 3 | 2, UInt8(content.count)] + content
}
private func field(_ number: UInt8, _ content: String) -> [UInt8] { field(number, Array(content.utf8)) }

private let csr = field(1, "CSR")
private let name = field(1, "ImpersonatedIdentity")
private let golden =
    "0a034353521080a3051a410a3f0a14496d706572736f6e617465644964656e7469747912271a257370696666653a2f2f"
    + "636c75737465722e6c6f63616c2f6e732f73686f702f73612f776562"

@Suite struct CertificateRequestTests {
    @Test func whatAProxyOfANodeAsksIsWrittenAsZtunnelWritesIt() throws {
        let web = try #require(WorkloadIdentity("spiffe://cluster.local/ns/shop/sa/web"))
        #expect(try certificateRequest(csr: "CSR", life: 86400, impersonating: web) == bytes(golden))
        #expect(certificateRequest(csr: "CSR") == csr)
    }

    @Test func whatZtunnelAsksIsRead() throws {
        let request = try read(bytes(golden)).get()
        #expect(request.csr == "CSR" && request.validity == 86400)
        #expect(request.impersonated == "spiffe://cluster.local/ns/shop/sa/web" && request.otherMetadata == [])
    }

    @Test func otherMetadataOfEveryKindIsNamedAndMeansNothing() throws {
        let golden =
            "0a034353521a4d0a070a0142120220010a100a09436c7573746572494412031a016b0a170a014c121232100a09110000"
            + "00000000f03f0a031a01610a0e0a014e120911000000000000f83f0a070a015a12020800"
        let request = try read(bytes(golden)).get()
        #expect(request.impersonated == nil && request.otherMetadata == ["B", "ClusterID", "L", "N", "Z"])
        #expect(request.csr == "CSR" && request.validity == 0)
    }

    @Test func fieldsOfLaterVersionsArePassedOver() throws {
        let later: [UInt8] =
            [4 << 3, 7] + [5 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0] + [6 << 3 | 5, 0, 0, 0, 0] + field(7, "x")
        #expect(try read(later + csr).get() == read(csr).get())
    }

    @Test func whatCanBeReadInTwoWaysIsRefused() throws {
        let value = field(2, field(3, "spiffe://a/ns/b/sa/c"))
        let once = csr + field(3, field(1, name + value))
        #expect(refusal(once) == nil)
        let cases: [(bytes: [UInt8], says: String)] = [
            ([], "no csr"),
            (field(1, ""), "no csr"),
            (csr + csr, "field 1 is given twice"),
            (csr + [2 << 3, 1, 2 << 3, 2], "field 2 is given twice"),
            (once + field(3, []), "field 3 is given twice"),
            (csr + field(3, field(1, name + value) + field(1, name + value)), "given twice"),
            (csr + field(3, field(1, name + name + value)), "given twice"),
            (csr + field(3, field(1, name + value + value)), "given twice"),
            (csr + field(3, field(1, name + field(2, field(3, "a") + field(3, "b")))), "given twice"),
            (csr + field(3, field(1, name)), "is no text"),
            (
                try bytes("0a034353521a230a210a14496d706572736f6e617465644964656e74697479120911000000000000f83f"),
                "is no text"
            ),
            (try bytes("0a0343535210ffffffffffffffffff01"), "is negative"),
            ([1 << 3, 5], "not of its type"),
            (csr + field(2, "x"), "not of its type"),
            (field(1, [0xff]), "not in UTF-8"),
            (csr + [0], "no Protocol Buffers message"),
            (csr + [7 << 3 | 3], "no Protocol Buffers message"),
            (csr + [2 << 3] + [UInt8](repeating: 0x80, count: 10) + [0], "no Protocol Buffers message"),
            (csr + [2 << 3] + [UInt8](repeating: 0xff, count: 9) + [2], "no Protocol Buffers message"),
            (csr + [7 << 3 | 2] + [UInt8](repeating: 0xff, count: 9) + [1], "no Protocol Buffers message"),
            ([UInt8](repeating: 0, count: CertificateRequest.maximumBytes + 1), "more than 65536"),
        ]
        for (bytes, says) in cases {
            let answer = try #require(refusal(bytes), "\(bytes.prefix(64))")
            #expect(
                answer.reason == .badRequest && answer.sentence.contains(says), "\(answer.sentence), not \(says)")
        }
    }

    /// Whatever comes is read or refused, and nothing is read that is not in it.
    @Test func anyBytesAreReadOrRefused() throws {
        var random = SeededGenerator()
        let valid = try bytes(golden)
        var refused = 0
        for _ in 0..<20_000 {
            var bytes = Array(valid.prefix(Int.random(in: 0...valid.count, using: &random)))
            for _ in 0..<Int.random(in: 0...4, using: &random) where !bytes.isEmpty {
                let at = bytes.indices.randomElement(using: &random) ?? 0
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.remove(at: at)
                default: bytes.insert(UInt8.random(in: 0...255, using: &random), at: at)
                }
            }
            switch read(bytes) {
            case .failure(let refusal):
                refused += 1
                #expect(refusal.reason == .badRequest)
            case .success(let request):
                let sizes = [request.csr, request.impersonated ?? ""] + request.otherMetadata
                #expect(sizes.reduce(0) { $0 + $1.utf8.count } <= bytes.count && request.validity >= 0)
            }
        }
        #expect((1..<20_000).contains(refused))
    }

    @Test func theAnswerIsWrittenAsOthersWriteIt() throws {
        let golden = "0a046c6561660ac801" + String(repeating: "c3a9", count: 100) + "0a04726f6f74"
        #expect(try certificateResponse(chain: ["leaf", String(repeating: "é", count: 100), "root"]) == bytes(golden))
    }

    @Test func theAnswerIsReadAsItIsWritten() throws {
        let chain = ["leaf", String(repeating: "é", count: 100), ""]
        let written = certificateResponse(chain: chain)
        #expect(certificateChain(inResponse: written.span) == chain)
        #expect(certificateChain(inResponse: [UInt8]().span) == [])
        // Of another number: a field of later versions. Of another type, cut off, no text, or endless: no answer.
        #expect(certificateChain(inResponse: ([0x12, 0x01, 0x61] + written).span) == chain)
        for bad: [UInt8] in [
            [0x08, 0x01], Array(written.dropLast(3)), [0x0a, 0x01, 0xff], [UInt8](repeating: 0x0a, count: 70_000),
        ] {
            #expect(certificateChain(inResponse: bad.span) == nil)
        }
    }

    @Test func aClientsRequestIsReadAsOne() throws {
        let csr = String(repeating: "x", count: 300)
        let request = try read(certificateRequest(csr: csr)).get()
        #expect(request.csr == csr && request.validity == 0 && request.impersonated == nil)
    }
}
