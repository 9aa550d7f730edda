/// Kinds of values that options take: how one is written, read, and shown as a default.
package import Addressing

package struct OptionKind<Value>: Sendable {
    /// What stands for the value in the help; nil: the option takes none on the command line, giving it means true.
    package let placeholder: String?
    /// What a value must be, as the end of the sentence "... is not".
    package let wanted: String
    let parse: @Sendable (String) -> Value?
    let text: @Sendable (Value) -> String

    package init(
        _ placeholder: String?, wanted: String, parse: @escaping @Sendable (String) -> Value?,
        text: @escaping @Sendable (Value) -> String
    ) {
        (self.placeholder, self.wanted) = (placeholder, wanted)
        (self.parse, self.text) = (parse, text)
    }

    /// The same with another name for the value.
    package func called(_ placeholder: String) -> OptionKind {
        OptionKind(placeholder, wanted: wanted, parse: parse, text: text)
    }
}

extension OptionKind where Value == String {
    package static func text(_ placeholder: String, wanted: String) -> Self {
        OptionKind(placeholder, wanted: wanted, parse: { $0.isEmpty ? nil : $0 }, text: { $0 })
    }
    /// An absolute one.
    package static func path(_ placeholder: String = "PATH", ofAtMost limit: Int = .max) -> Self {
        OptionKind(
            placeholder, wanted: "an absolute path" + (limit == .max ? "" : " of at most \(limit) bytes"),
            parse: { text in
                text.hasPrefix("/") && !text.utf8.contains(0) && text.utf8.count <= limit ? text : nil
            }, text: { $0 })
    }
}

extension OptionKind where Value == Bool {
    package static var isSet: Self {
        OptionKind(nil, wanted: "true or false", parse: boolean, text: { "\($0)" })
    }
    /// Giving it means false.
    package static var isNotSet: Self {
        OptionKind(nil, wanted: "true or false", parse: { boolean($0).map { !$0 } }, text: { "\(!$0)" })
    }
}

extension OptionKind where Value: FixedWidthInteger & Sendable {
    package static func number(_ range: ClosedRange<Value>, _ placeholder: String = "N") -> Self {
        // 9223372036854775807 helps nobody; any other bound may be what the number is refused for.
        let isOpen = Value.self == Int.self && range.upperBound == .max
        return OptionKind(
            placeholder,
            wanted: isOpen
                ? "a number of at least \(range.lowerBound)"
                : "a number from \(range.lowerBound) to \(range.upperBound)",
            parse: { Value($0).flatMap { range.contains($0) ? $0 : nil } }, text: { "\($0)" })
    }
}

extension OptionKind where Value == UInt16 {
    package static var port: Self { port(from: 1) }
    /// The kernel chooses one.
    package static var portOrZero: Self { port(from: 0) }

    private static func port(from least: UInt16) -> Self {
        OptionKind(
            "PORT", wanted: "a port from \(least) to 65535",
            parse: { UInt16($0).flatMap { $0 >= least ? $0 : nil } }, text: { "\($0)" })
    }
}

extension OptionKind where Value: RawRepresentable<String> & CaseIterable & SendableMetatype {
    package static var choice: Self {
        let names = Value.allCases.map(\.rawValue)
        return OptionKind(
            names.joined(separator: "|"),
            wanted: names.dropLast().joined(separator: ", ") + " or " + (names.last ?? ""),
            parse: { Value(rawValue: $0) }, text: { $0.rawValue })
    }
}

extension OptionKind where Value == SocketAddress {
    package static func address(like example: String) -> OptionKind<SocketAddress> {
        OptionKind(
            "HOST:PORT", wanted: "an address and port like \(example)", parse: { SocketAddress($0) }, text: { "\($0)" })
    }
}

extension OptionKind where Value == Duration {
    package static func duration(_ range: ClosedRange<Duration>, orZero: Bool = false, wanted: String) -> Self {
        OptionKind(
            "DURATION", wanted: wanted,
            parse: { text in
                parseDuration(text).flatMap { range.contains($0) || orZero && $0 == .zero ? $0 : nil }
            }, text: durationText)
    }
}

private func boolean(_ text: String) -> Bool? {
    switch text {
    case "true", "1": true
    case "false", "0": false
    default: nil
    }
}

/// `10ms`, `1.5s`, `1m30s`, `0`, as Go writes durations; nil for anything negative, without a unit, or of
/// more than 292 years.
package func parseDuration(_ text: String) -> Duration? {
    if text == "0" { return .zero }
    var rest = Substring(text)
    var nanoseconds: Int64 = 0
    while !rest.isEmpty {
        let digits = rest.prefix { ("0"..."9").contains($0) || $0 == "." }
        rest = rest.dropFirst(digits.count)
        let unit = rest.prefix { $0.isLetter }
        rest = rest.dropFirst(unit.count)
        guard let amount = Double(digits), amount < 1e6, let unit = nanosecondsPerUnit[String(unit)] else { return nil }
        let (sum, isTooLong) = nanoseconds.addingReportingOverflow(Int64((amount * unit).rounded()))
        guard !isTooLong else { return nil }
        nanoseconds = sum
    }
    return text.isEmpty ? nil : .nanoseconds(nanoseconds)
}

private let nanosecondsPerUnit: [String: Double] = [
    "ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9,
]

/// The one unit that leaves a whole number.
func durationText(_ duration: Duration) -> String {
    if duration == .zero { return "0" }
    let units: [(String, Duration)] = [
        ("h", .seconds(3600)), ("m", .seconds(60)), ("s", .seconds(1)), ("ms", .milliseconds(1)),
        ("us", .microseconds(1)),
    ]
    for (name, unit) in units {
        let count = Int((duration / unit).rounded())
        if count > 0, unit * count == duration { return "\(count)\(name)" }
    }
    return "\(duration)"
}
