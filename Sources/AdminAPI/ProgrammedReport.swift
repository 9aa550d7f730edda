/// How far a node is, as its agent tells whoever asks at `/programmed` of its health server.

package struct ProgrammedReport: Codable, Sendable, Equatable {
    package static let path = "/programmed"
    /// What holds a node up. Others may come.
    package enum Cause {
        /// The first lists are not complete.
        package static let source = "source"
        package static let kernel = "kernel"
        package static let proxy = "proxy"
        /// Routes are not followed here: the agent runs without an L7 proxy.
        package static let noProxy = "no-proxy"
    }

    package var node: String
    /// By kind (`HTTPRoute`): up to this resourceVersion everything is in force, in the kernel and, of routes, in the
    /// L7 proxy. A kind of which nothing is known is left out.
    package var reached: [String: String]
    /// nil: nothing waits.
    package var waitsFor: String?
    package var waitsSeconds: Double?
    /// Services that the kernel has no room for, `shop/web`: some of them, and how many there are.
    package var refused: [String]
    package var refusedCount: Int

    package init(node: String, reached: [String: String]) {
        (self.node, self.reached) = (node, reached)
        (refused, refusedCount) = ([], 0)
    }
}
