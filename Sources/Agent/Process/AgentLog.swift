/// swift-log's handler over `LogLine`. Level and format can change while the agent runs (SIGHUP).
import Logging
import Synchronization
import Telemetry

final class LogSettings: Sendable {
    private let state: Mutex<(level: Logger.Level, format: LogLine.Format)>

    init(level: Logger.Level, format: LogLine.Format) { state = Mutex((level, format)) }

    convenience init(_ configuration: AgentConfiguration) {
        self.init(level: configuration.logLevel.level, format: configuration.logFormat)
    }
    func change(_ configuration: AgentConfiguration) {
        state.withLock { $0 = (configuration.logLevel.level, configuration.logFormat) }
    }
    var level: Logger.Level { state.withLock { $0.level } }
    var format: LogLine.Format { state.withLock { $0.format } }

    func logger() -> Logger { Logger(label: "heddle") { _ in AgentLogHandler(settings: self) } }
}

private struct AgentLogHandler: LogHandler {
    let settings: LogSettings
    var metadata: Logger.Metadata = [:]
    // All loggers share the level, so that SIGHUP changes it everywhere.
    var logLevel: Logger.Level {
        get { settings.level }
        set {}
    }
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let fields = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
        LogLine(
            level: event.level.rawValue, message: "\(event.message)",
            fields: fields.map { ($0.key, $0.value.description) }
        ).write(settings.format)
    }
}

extension AgentConfiguration.LogLevel {
    fileprivate var level: Logger.Level { Logger.Level(rawValue: rawValue) ?? .info }
}
