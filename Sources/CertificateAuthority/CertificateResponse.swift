/// `istio.v1.auth.IstioCertificateResponse` on the wire, and the request as whoever asks writes it.

/// The answer: the leaf first, then those above it.
package func certificateResponse(chain: [String]) -> [UInt8] { chain.flatMap { field(1, $0) } }

/// nil: it is no such answer, or is longer than any chain.
package func certificateChain(inResponse bytes: Span<UInt8>) -> [String]? {
    guard bytes.count <= CertificateRequest.maximumBytes else { return nil }
    var fields = Fields(bytes, 0..<bytes.count)
    var chain: [String] = []
    do throws(Refusal) {
        while let next = try fields.next() {
            guard next.number == 1 else { continue }
            guard case .bytes(let range) = next.value,
                let text = String(validating: range.map { bytes[$0] }, as: UTF8.self)
            else { return nil }
            chain.append(text)
        }
    } catch {
        return nil
    }
    return chain
}

/// A request for whatever identity the requester has.
package func certificateRequest(csr: String) -> [UInt8] { field(1, csr) }

private func field(_ number: UInt8, _ text: String) -> [UInt8] {
    var result = [number << 3 | 2]
    var count = text.utf8.count
    while count >= 0x80 {
        result.append(UInt8(count & 0x7f) | 0x80)
        count >>= 7
    }
    result.append(UInt8(count))
    return result + text.utf8
}
