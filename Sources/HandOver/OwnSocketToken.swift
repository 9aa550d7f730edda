/// The token by which the kernel knows the proxy's sockets as the node's own (bpf/include/own_abi.h). The agent draws
/// it, the proxy keeps it in memory. Whoever has it speaks for any client, so nothing shows it.

package struct OwnSocketToken: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    package static let length = 16
    package let bytes: [UInt8]

    /// nil: no token has so many bytes.
    package init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.length else { return nil }
        self.bytes = bytes
    }
    package var description: String { "a token" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: [:]) }
}
