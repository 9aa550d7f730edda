/// One option of a program, described once: what reads it from flags, environment and file, what the help says of it,
/// and where its value goes.
package struct Option<Settings>: Sendable {
    /// `node-name`: `--node-name`, `HEDDLE_NODE_NAME` and the key of the configuration file follow from it.
    package let name: String
    /// nil: a switch.
    package let placeholder: String?
    let help: String
    /// In words where the settings themselves do not say it.
    let fallback: String?
    let wanted: String
    /// False: the text is no such value.
    let set: @Sendable (inout Settings, String) -> Bool

    package var flag: String { "--" + name }

    /// A line of the help, with the text at column `indent`.
    func line(_ indent: Int) -> String {
        let left = "  " + flag + (placeholder.map { " " + $0 } ?? "")
        let gap = left.utf8.count < indent ? indent - left.utf8.count : indent
        let text = [help, fallback.map { "(default: \($0))" } ?? ""].filter { !$0.isEmpty }.joined(separator: " ")
        return left + (gap == indent ? "\n" : "") + String(repeating: " ", count: gap) + text + "\n"
    }
}

extension OptionTable {
    /// `fallback`: the default in words, if the value of `Settings` at the start does not say it; empty: nothing.
    package mutating func add<Value>(
        _ name: String, _ kind: OptionKind<Value>, _ path: any WritableKeyPath<Settings, Value> & Sendable,
        _ help: String, fallback: String? = nil
    ) {
        let said = fallback ?? (kind.placeholder == nil ? "" : kind.text(defaults[keyPath: path]))
        add(
            Option(
                name: name, placeholder: kind.placeholder, help: help, fallback: said.isEmpty ? nil : said,
                wanted: kind.wanted
            ) { settings, text in
                guard let value = kind.parse(text) else { return false }
                settings[keyPath: path] = value
                return true
            })
    }

    /// One without a value until it is given.
    package mutating func add<Value>(
        _ name: String, _ kind: OptionKind<Value>, _ path: any WritableKeyPath<Settings, Value?> & Sendable,
        _ help: String, fallback: String? = nil
    ) {
        add(
            Option(
                name: name, placeholder: kind.placeholder, help: help, fallback: fallback, wanted: kind.wanted
            ) { settings, text in
                guard let value = kind.parse(text) else { return false }
                settings[keyPath: path] = value
                return true
            })
    }
}
