/// Which names are recognised, whatever bytes they are made of.
import HTTPWire
import Testing

@Suite struct HeaderNameTests {
    /// Every name with every byte in place of each of its own: recognised in any case, and by nothing else.
    @Test(arguments: HeaderName.allCases.filter { $0 != .other })
    func aNameIsRecognisedInAnyCaseAndNothingElseIs(_ known: HeaderName) {
        let text = String(describing: known.text)
        let name = Array(text.utf8)
        #expect(recognise(name) == known)
        #expect(recognise(Array(text.uppercased().utf8)) == known)
        for at in name.indices {
            for byte in UInt8.min...UInt8.max {
                var other = name
                other[at] = byte
                let isTheSame = String(decoding: other, as: UTF8.self).lowercased() == text
                let found = recognise(other)
                #expect((found == known) == isTheSame, "\(text) with \(byte) at \(at) is \(found)")
            }
        }
    }

    private func recognise(_ name: [UInt8]) -> HeaderName { name.withUnsafeBytes { HeaderName.recognise($0) } }
}
