/// How long a command waits, as people write it.
import ArgumentParser
import Options

/// `30`, which are seconds, or a duration as in the agent's options: `500ms`, `1m30s`.
struct WaitTime: ExpressibleByArgument {
    let duration: Duration

    init(duration: Duration) { self.duration = duration }

    init?(argument: String) {
        guard let duration = UInt32(argument).map({ .seconds($0) }) ?? parseDuration(argument) else { return nil }
        self.duration = duration
    }
}
