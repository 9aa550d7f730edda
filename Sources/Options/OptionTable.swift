/// All options of one program, and how settings come from them: flag, then environment variable, then configuration
/// file, then default. Every refusal names the place that the setting came from and what it may be.

/// A setting that cannot be used, as a sentence.
package struct OptionError: Error, Equatable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// One `key: value` of a configuration file; lists arrive joined by commas.
package struct ConfigurationEntry: Sendable {
    package let key: String
    package let value: String
    package let line: Int

    package init(key: String, value: String, line: Int) {
        self.key = key
        self.value = value
        self.line = line
    }
}

package struct OptionTable<Settings: Sendable>: Sendable {
    private struct Written {
        var text: String
        /// `--node-name`, `HEDDLE_NODE_NAME`, `agent.yaml:3: node-name`
        var origin: String
    }

    package let program: String
    package let defaults: Settings
    package private(set) var options: [Option<Settings>] = []
    /// `HEDDLE_`; nil: the program takes nothing from its environment.
    private let variablePrefix: String?
    /// The option that names the configuration file; nil: there is none.
    private let fileOption: String?

    package init(program: String, variables prefix: String? = nil, file option: String? = nil, defaults: Settings) {
        (self.program, self.defaults) = (program, defaults)
        (variablePrefix, fileOption) = (prefix, option)
    }

    mutating func add(_ option: Option<Settings>) { options.append(option) }

    package subscript(name: String) -> Option<Settings>? { options.first { $0.name == name } }

    /// `HEDDLE_NODE_NAME`
    package func variable(of option: Option<Settings>) -> String? {
        variablePrefix.map { $0 + String(option.name.uppercased().map { $0 == "-" ? "_" : $0 }) }
    }
    package var variables: [String] { options.compactMap { variable(of: $0) } }

    // MARK: Reading

    package func settings(
        arguments: [String], environment: [String: String] = [:],
        readFile: (String) throws(OptionError) -> [ConfigurationEntry] = { (_) throws(OptionError) in [] }
    ) throws(OptionError) -> Settings {
        var written = try read(arguments).merging(read(environment)) { flag, _ in flag }
        if let file = fileOption.flatMap({ written[$0]?.text }) {
            written.merge(try read(readFile(file), of: file)) { known, _ in known }
        }
        var settings = defaults
        for option in options {
            guard let found = written[option.name], !option.set(&settings, found.text) else { continue }
            throw OptionError("\(found.origin): \"\(found.text)\" is not \(option.wanted)")
        }
        return settings
    }

    /// `--name value`, `--name=value` and bare switches; of a flag given twice the last counts.
    private func read(_ arguments: [String]) throws(OptionError) -> [String: Written] {
        var result: [String: Written] = [:]
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            guard argument.hasPrefix("--") else {
                throw OptionError("unexpected argument \"\(argument)\"; options start with --, see \(program) --help")
            }
            let parts = argument.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            guard let option = self[name] else {
                let guess = closest(to: name).map { "; did you mean --\($0)?" } ?? ""
                throw OptionError("unknown option --\(name), see \(program) --help\(guess)")
            }
            if parts.count > 1 {
                result[name] = Written(text: String(parts[1]), origin: option.flag)
            } else if let placeholder = option.placeholder {
                guard let value = rest.popFirst() else {
                    throw OptionError("\(option.flag) needs a value: \(option.flag) \(placeholder)")
                }
                result[name] = Written(text: value, origin: option.flag)
            } else {
                result[name] = Written(text: "true", origin: option.flag)
            }
        }
        return result
    }

    /// Only the names we know: a Service called `heddle` makes Kubernetes set HEDDLE_SERVICE_HOST and the like.
    private func read(_ environment: [String: String]) -> [String: Written] {
        var result: [String: Written] = [:]
        for option in options {
            guard let variable = variable(of: option), let text = environment[variable] else { continue }
            result[option.name] = Written(text: text, origin: variable)
        }
        return result
    }

    private func read(_ entries: [ConfigurationEntry], of file: String) throws(OptionError) -> [String: Written] {
        var result: [String: Written] = [:]
        for entry in entries {
            let origin = "\(file):\(entry.line): \(entry.key)"
            guard self[entry.key] != nil, entry.key != fileOption else {
                let guess = closest(to: entry.key).map { "; did you mean \($0)?" } ?? ""
                throw OptionError("\(origin): unknown key, see \(program) --help for those there are\(guess)")
            }
            guard result[entry.key] == nil else { throw OptionError("\(origin): the key is given twice") }
            result[entry.key] = Written(text: entry.value, origin: origin)
        }
        return result
    }

    /// What was probably meant: a name of which at most a third was mistyped.
    private func closest(to name: String) -> String? {
        let found = options.map { ($0.name, editDistance($0.name, name)) }.min { $0.1 < $1.1 }
        return found.flatMap { $0.1 * 3 <= name.utf8.count ? $0.0 : nil }
    }

    // MARK: Help

    /// A line for each option.
    package var help: String { options.map { $0.line(38) }.joined() }
}

/// How many bytes must be added, dropped or replaced to make one text the other.
private func editDistance(_ a: String, _ b: String) -> Int {
    let b = Array(b.utf8)
    var row = Array(0...b.count)
    for (number, byte) in a.utf8.enumerated() {
        var diagonal = row[0]
        row[0] = number + 1
        for index in b.indices {
            let replaced = diagonal + (b[index] == byte ? 0 : 1)
            diagonal = row[index + 1]
            row[index + 1] = min(replaced, diagonal + 1, row[index] + 1)
        }
    }
    return row[b.count]
}
