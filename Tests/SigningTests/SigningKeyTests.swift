// Private keys stay where they are.
import Signing
import Testing

@Suite struct SigningKeyTests {
    @Test func aKeyShowsItselfToNobody() {
        let key = SigningKey.generate()
        let secret = String(decoding: key.pem, as: UTF8.self).split(separator: "\n")[1]
        var dumped = ""
        dump([key], to: &dumped)
        for text in ["\(key)", String(reflecting: [key]), dumped] { #expect(!text.contains(secret)) }
    }
}
