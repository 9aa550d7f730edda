/// A private key, which shows itself to nobody: not in logs, not in dumps of what holds it.
import Crypto

package struct SigningKey: Sendable {
    private let key: P256.Signing.PrivateKey

    package static func generate() -> SigningKey { SigningKey(key: P256.Signing.PrivateKey()) }

    /// For the Secret that keeps it.
    package var pem: [UInt8] { Array(key.pemRepresentation.utf8) }
}

extension SigningKey: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "a private key" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: []) }
}
