/// Turns written settings into values; every refusal names where the setting came from and what it may be.
import Addressing
import NodeControl

struct SettingReader {
    let settings: Settings

    /// Leaves `target` alone when the option was not given.
    func value<T>(
        _ option: OptionName, _ expected: String, into target: inout T, _ parse: (String) -> T?
    ) throws(ConfigurationError) {
        guard let setting = settings[option] else { return }
        guard let value = parse(setting.text) else {
            throw ConfigurationError("\(setting.origin): \"\(setting.text)\" is not \(expected)")
        }
        target = value
    }

    func value<T>(
        _ option: OptionName, _ expected: String, into target: inout T?, _ parse: (String) -> T?
    ) throws(ConfigurationError) {
        guard let setting = settings[option] else { return }
        guard let value = parse(setting.text) else {
            throw ConfigurationError("\(setting.origin): \"\(setting.text)\" is not \(expected)")
        }
        target = value
    }

    func choice<T: RawRepresentable & CaseIterable>(_ option: OptionName, into target: inout T)
        throws(ConfigurationError) where T.RawValue == String
    {
        let names = T.allCases.map(\.rawValue)
        let expected = names.dropLast().joined(separator: ", ") + " or " + (names.last ?? "")
        try value(option, expected, into: &target) { T(rawValue: $0) }
    }
}

func absolutePath(_ text: String) -> String? { text.hasPrefix("/") && !text.utf8.contains(0) ? text : nil }

func boolean(_ text: String) -> Bool? {
    switch text {
    case "true", "1": true
    case "false", "0": false
    default: nil
    }
}

func mapSize(_ text: String) -> UInt32? { UInt32(text).flatMap { $0 > 0 ? $0 : nil } }

/// An empty list is no value: it would silently mean "everything".
func prefixList(_ text: String) -> [IPPrefix]? {
    let items = text.split(separator: ",", omittingEmptySubsequences: false).map { IPPrefix($0) }
    return items.contains(nil) ? nil : items.compactMap { $0 }
}

func parseNodePortAddresses(_ text: String) -> AgentConfiguration.NodePortAddresses? {
    switch text {
    case "primary": .primary
    case "all": .all
    default: prefixList(text).map { .cidrs($0) }
    }
}

func parseDetectLocal(_ text: String) -> AgentConfiguration.DetectLocal? {
    let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
    // Longest name of a network interface: IFNAMSIZ without the final zero.
    let name = parts.count == 2 && (1...15).contains(parts[1].utf8.count) ? parts[1] : nil
    return switch (parts.first, name) {
    case ("cluster-cidr", nil) where parts.count == 1: .clusterCIDR
    case ("node-cidr", nil) where parts.count == 1: .nodeCIDR
    case ("bridge-interface", let name?): .bridge(name)
    case ("interface-prefix", let name?): .interfacePrefix(name)
    default: nil
    }
}

/// `10ms`, `1.5s`, `1m30s`, `0`, as Go writes durations; nil for anything negative or without a unit.
func parseDuration(_ text: String) -> Duration? {
    if text == "0" { return .zero }
    var rest = Substring(text)
    var nanoseconds: Int64 = 0
    while !rest.isEmpty {
        let digits = rest.prefix { ("0"..."9").contains($0) || $0 == "." }
        rest = rest.dropFirst(digits.count)
        let unit = rest.prefix { $0.isLetter }
        rest = rest.dropFirst(unit.count)
        guard let amount = Double(digits), amount < 1e6, let unit = nanosecondsPerUnit[String(unit)] else { return nil }
        nanoseconds += Int64((amount * unit).rounded())
    }
    return text.isEmpty ? nil : .nanoseconds(nanoseconds)
}

private let nanosecondsPerUnit: [String: Double] = [
    "ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9,
]
