/// The test's end of a `pod-driver` process (Tests/PodDriver): one command out, its answer back.
import Glibc

final class Driver {
    private let socket: Int32
    private let process: ChildProcess
    private var buffer: [UInt8] = []

    init(namespacePath: String, cgroup: String) throws(TestFailure) {
        let (ours, theirs) = try socketPair()
        defer { close(theirs) }
        socket = ours
        do throws(TestFailure) {
            process = try ChildProcess(
                Self.command(namespacePath, cgroup) + ["serve"], descriptors: [theirs, theirs, 2])
        } catch {
            close(ours)
            throw error
        }
    }
    deinit {
        // End of input ends the driver; waiting for it lets its cgroup be removed.
        close(socket)
        _ = try? process.wait(within: .seconds(5))
    }

    /// The words that start a program inside a namespace and a cgroup: `... exec PROGRAM`.
    static func command(_ namespacePath: String, _ cgroup: String) -> [String] {
        [programDirectory + "/pod-driver", "--cgroup", cgroup, "--netns", namespacePath]
    }

    /// Answers the lines before the final `.`.
    func send(_ command: String) throws(TestFailure) -> [String] {
        try sendAll(socket, Array((command + "\n").utf8))
        var lines: [String] = []
        while true {
            let line = try nextLine()
            if line == "." { return lines }
            if line.hasPrefix("error ") {
                _ = try nextLine()
                throw TestFailure("pod-driver: \(command): \(line.dropFirst(6))")
            }
            lines.append(line)
        }
    }

    private func nextLine() throws(TestFailure) -> String {
        while true {
            if let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
                defer { buffer.removeSubrange(...end) }
                return String(decoding: buffer[..<end], as: UTF8.self)
            }
            try fill()
        }
    }

    func bytes(_ count: Int) throws(TestFailure) -> [UInt8] {
        while buffer.count < count { try fill() }
        defer { buffer.removeFirst(count) }
        return Array(buffer[..<count])
    }

    private func fill() throws(TestFailure) {
        let chunk = [UInt8](unsafeUninitializedCapacity: 1 << 20) {
            $1 = max(0, recv(socket, $0.baseAddress, $0.count, 0))
        }
        guard !chunk.isEmpty else { throw TestFailure("the pod-driver process has ended") }
        buffer += chunk
    }
}

/// Where the build puts its programs: beside the test program itself.
package let programDirectory: String = {
    var path = [CChar](repeating: 0, count: 4096)
    let count = max(0, readlink("/proc/self/exe", &path, path.count))
    let text = String(decoding: path[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    return String(text[..<(text.lastIndex(of: "/") ?? text.startIndex)])
}()
