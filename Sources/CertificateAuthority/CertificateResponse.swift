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

/// A request for whatever identity the requester has, or for another's. `life`: in seconds; 0: as the authority likes.
package func certificateRequest(
    csr: String, life: Int = 0, impersonating identity: WorkloadIdentity? = nil
) -> [UInt8] {
    var request = field(1, csr)
    if life > 0 { request += [2 << 3] + varint(life) }
    if let identity {
        // `google.protobuf.Struct`: one entry, whose value is a text.
        let entry = field(1, "ImpersonatedIdentity") + field(2, field(3, identity.description))
        request += field(3, field(1, entry))
    }
    return request
}

private func field(_ number: UInt8, _ text: String) -> [UInt8] { field(number, Array(text.utf8)) }
private func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] { [number << 3 | 2] + varint(bytes.count) + bytes }

private func varint(_ value: Int) -> [UInt8] {
    var result: [UInt8] = []
    var rest = value
    while rest >= 0x80 {
        result.append(UInt8(rest & 0x7f) | 0x80)
        rest >>= 7
    }
    return result + [UInt8(rest)]
}
