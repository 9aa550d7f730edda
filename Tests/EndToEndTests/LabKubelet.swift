/// What probes a pod as kubelet does: a program of that name on the node, in a cgroup of its own.
import Addressing
import Glibc
import TestSupport

final class LabKubelet {
    private let folder: TemporaryDirectory
    private let process: ChildProcess

    init(on node: LabNode, probing target: SocketAddress) throws {
        folder = try TemporaryDirectory()
        let (program, cgroup) = (folder.path + "/kubelet", node.host.cgroup + "/kubelet")
        guard symlink("/bin/bash", program) == 0, mkdir(cgroup, 0o755) == 0 else {
            throw TestFailure.errno("make \(program) and \(cgroup)")
        }
        let script = """
            echo $$ > "$1/cgroup.procs"
            while true; do
              if (exec 3<> "/dev/tcp/$2/$3") 2> /dev/null; then echo passes; else echo refused; fi > "$4.new"
              mv "$4.new" "$4"
              read -r -t 0.05 <> "$5"
            done
            """
        mkfifo(folder.path + "/never", 0o600)
        process = try node.host.spawn([
            program, "-c", script, "kubelet", cgroup, "\(target.address)", "\(target.port)", folder.path + "/answer",
            folder.path + "/never",
        ])
    }

    /// What becomes of a probe that begins now.
    func probe() throws -> String {
        var answer = ""
        for _ in 0..<2 {
            unlink(folder.path + "/answer")
            try eventually("a probe") {
                answer = readText(folder.path + "/answer")
                return !answer.isEmpty
            }
        }
        return String(answer.dropLast())
    }
}
