/// swift-log's handler over `LogLine`. Level and format can change while the program runs (SIGHUP).
package import Logging
import Synchronization
package import Telemetry

package enum LogLevel: String, Sendable, CaseIterable {
    case trace, debug, info, notice, warning, error, critical

    fileprivate var level: Logger.Level { Logger.Level(rawValue: rawValue) ?? .info }
}

package final class LogSettings: Sendable {
    private let state: Mutex<(level: Logger.Level, format: LogLine.Format)>

    package init(_ level: LogLevel, _ format: LogLine.Format) { state = Mutex((level.level, format)) }

    package func change(_ level: LogLevel, _ format: LogLine.Format) {
        state.withLock { $0 = (level.level, format) }
    }
    fileprivate var level: Logger.Level { state.withLock { $0.level } }
    fileprivate var format: LogLine.Format { state.withLock { $0.format } }

    package func logger() -> Logger { Logger(label: "heddle") { _ in LineHandler(settings: self) } }
}

private struct LineHandler: LogHandler {
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
