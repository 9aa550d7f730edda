/// One agent a node: two would undo each other's work in the kernel.
import Daemon
import Glibc
import Posix

enum AgentLocks {
    /// Taken before anything else is touched and held until the process ends. Two, because agents that differ in one of
    /// state directory and admin socket are still two; a state directory that cannot be written has none.
    static func take(stateDirectory: String, adminSocket: String) throws(StartupError) {
        let isOptional = access(stateDirectory, W_OK) != 0
        try take(
            "\(stateDirectory)/lock", of: "state directory \(stateDirectory)", "--state-dir", isOptional: isOptional)
        try take("\(adminSocket).lock", of: "admin socket \(adminSocket)", "--api-socket", isOptional: false)
    }

    private static func take(
        _ path: String, of subject: String, _ option: String, isOptional: Bool
    ) throws(StartupError) {
        do throws(ProcessLock.Failure) {
            _ = try ProcessLock(path)
        } catch {
            switch error {
            case .held(let pid):
                let holder = pid.map { "the agent with pid \($0)" } ?? "an agent in another container"
                throw StartupError("\(holder) holds the \(subject); stop it or pass another \(option)")
            case .impossible(let problem):
                if !isOptional { throw StartupError("\(problem); pass another \(option)") }
            }
        }
    }
}
