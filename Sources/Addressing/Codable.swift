/// Addresses and prefixes in files and answers: as people write them.

/// Coded as its description.
package protocol TextCodable: Codable, CustomStringConvertible {
    init?(_ text: some StringProtocol)
    /// What a text that cannot be read should have been.
    static var textForm: String { get }
}

extension TextCodable {
    package init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let value = Self(text) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "\"\(text)\" is not \(Self.textForm)"))
        }
        self = value
    }
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

extension IPAddress: TextCodable {
    package static var textForm: String { "an IP address" }
}

extension IPPrefix: TextCodable {
    package static var textForm: String { "a range of addresses" }
}

extension SocketAddress: TextCodable {
    package static var textForm: String { "ADDRESS:PORT" }
}
