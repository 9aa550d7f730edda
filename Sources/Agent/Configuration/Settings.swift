/// The three places settings come from, put on top of each other: flag, environment variable, configuration file.

/// A setting that cannot be used. The sentence names the place it came from.
struct ConfigurationError: Error, Equatable, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// A value as it was written, and where.
struct Setting: Equatable {
    var text: String
    /// `--node-name`, `HEDDLE_NODE_NAME`, `agent.yaml:3: node-name`
    var origin: String
}

/// One `key: value` of a configuration file; lists arrive joined by commas.
struct ConfigurationEntry: Sendable {
    let key: String
    let value: String
    let line: Int

    init(key: String, value: String, line: Int) {
        self.key = key
        self.value = value
        self.line = line
    }
}

typealias Settings = [OptionName: Setting]

/// `--name value`, `--name=value` and bare switches; of a flag given twice the last counts.
func settings(arguments: [String]) throws(ConfigurationError) -> Settings {
    var result = Settings()
    var rest = arguments[...]
    while let argument = rest.popFirst() {
        guard argument.hasPrefix("--") else {
            throw ConfigurationError("unexpected argument \"\(argument)\"; options start with --, see --help")
        }
        let parts = argument.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard let option = OptionName(rawValue: String(parts[0])) else {
            throw ConfigurationError("unknown option --\(parts[0]), see --help")
        }
        if parts.count > 1 {
            result[option] = Setting(text: String(parts[1]), origin: option.flag)
        } else if option.isSwitch {
            result[option] = Setting(text: "true", origin: option.flag)
        } else if let value = rest.popFirst() {
            result[option] = Setting(text: value, origin: option.flag)
        } else {
            throw ConfigurationError("\(option.flag) needs a value: \(option.flag) \(option.help.value)")
        }
    }
    return result
}

/// Only the names we know: a Service called `heddle` makes Kubernetes set HEDDLE_SERVICE_HOST and the like.
func settings(environment: [String: String]) -> Settings {
    var result = Settings()
    for option in OptionName.allCases {
        if let text = environment[option.environmentVariable] {
            result[option] = Setting(text: text, origin: option.environmentVariable)
        }
    }
    return result
}

func settings(entries: [ConfigurationEntry], file: String) throws(ConfigurationError) -> Settings {
    var result = Settings()
    for entry in entries {
        let origin = "\(file):\(entry.line): \(entry.key)"
        guard let option = OptionName(rawValue: entry.key), option != .config else {
            throw ConfigurationError("\(origin): unknown key, see heddle-agent --help for those there are")
        }
        guard result[option] == nil else { throw ConfigurationError("\(origin): the key is given twice") }
        result[option] = Setting(text: entry.value, origin: origin)
    }
    return result
}
