/// `agentctl cleanup`: the explicit end of a service proxy's kernel state, Heddle's or kube-proxy's.
import ArgumentParser

struct Cleanup: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Removes everything Heddle put into the kernel, and nothing else.",
        discussion: """
            Stop the agent first, or it will write everything again.
            With --kube-proxy it removes what kube-proxy left, and nothing of Heddle: stop kube-proxy first.

            Examples:
              agentctl cleanup                after the agent was stopped for good
              agentctl cleanup --kube-proxy   after its DaemonSet was deleted
            """)

    @Flag(help: "Remove what kube-proxy left in place of what Heddle made.")
    var kubeProxy = false
    @OptionGroup var options: SharedOptions

    func run() throws {
        if kubeProxy { return try removeKubeProxy() }
        let removed = try KernelAccess.cleanup(bpffs: options.bpffs)
        if options.output == .json { return try Output.json(removed) }
        Output.tell(removed.isEmpty ? "nothing of Heddle was there\n" : removed.map { "removed \($0)\n" }.joined())
    }

    private struct KubeProxyReport: Encodable {
        let removed: [String]
        let left: [String]
    }

    private func removeKubeProxy() throws {
        let (removed, left) = try KernelAccess.cleanupKubeProxy()
        if options.output == .json {
            try Output.json(KubeProxyReport(removed: removed, left: left))
        } else {
            let isNothing = removed.isEmpty && left.isEmpty
            Output.tell(isNothing ? "nothing of kube-proxy was there\n" : removed.map { "removed \($0)\n" }.joined())
        }
        guard left.isEmpty else {
            throw CommandFailure("still there: " + left.joined(separator: "; "))
        }
    }
}
