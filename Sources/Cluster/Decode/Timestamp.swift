/// RFC 3339 times, as in `metadata.creationTimestamp`, to seconds since 1970, without a calendar library.

package enum Timestamp {
    package static func seconds(_ text: String) -> Double? {
        var rest = text.utf8[...]
        guard let year = number(&rest, 4), skip(&rest, "-"), let month = number(&rest, 2), skip(&rest, "-"),
            let day = number(&rest, 2), skip(&rest, "T", "t", " "), let hour = number(&rest, 2), skip(&rest, ":"),
            let minute = number(&rest, 2), skip(&rest, ":"), let second = number(&rest, 2),
            (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second <= 60
        else { return nil }
        var fraction = 0.0
        if skip(&rest, ".") {
            let digits = rest.prefix { isDigit($0) }
            guard !digits.isEmpty, digits.count <= 18, let value = Double("0." + String(Substring(digits))) else {
                return nil
            }
            fraction = value
            rest = rest.dropFirst(digits.count)
        }
        guard let offset = zone(&rest), rest.isEmpty else { return nil }
        let time = hour * 3600 + minute * 60 + second - offset
        return Double(days(year, month, day) * 86400 + time) + fraction
    }

    /// `2026-01-31T12:00:00Z`, for times since 1970.
    package static func text(_ seconds: Int) -> String {
        let (day, time) = seconds.quotientAndRemainder(dividingBy: 86400)
        // The inverse of `days`, by the same calendar that begins in March.
        let shifted = day + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfYear + 2) / 153
        let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        let date = [year, month, dayOfYear - (153 * marchMonth + 2) / 5 + 1]
        let clock = [time / 3600, time / 60 % 60, time % 60]
        let two = { (number: Int) in number < 10 ? "0\(number)" : "\(number)" }
        return date.map(two).joined(separator: "-") + "T" + clock.map(two).joined(separator: ":") + "Z"
    }

    /// Seconds east of Greenwich.
    private static func zone(_ rest: inout Substring.UTF8View) -> Int? {
        if skip(&rest, "Z", "z") { return 0 }
        let sign = rest.first == UInt8(ascii: "-") ? -1 : 1
        guard skip(&rest, "+", "-"), let hours = number(&rest, 2), skip(&rest, ":"), let minutes = number(&rest, 2),
            hours < 24, minutes < 60
        else { return nil }
        return sign * (hours * 3600 + minutes * 60)
    }

    /// Days since 1970-01-01 in the Gregorian calendar. Years begin in March here, which puts the leap day last.
    private static func days(_ year: Int, _ month: Int, _ day: Int) -> Int {
        let year = month <= 2 ? year - 1 : year
        let era = year / 400
        let yearOfEra = year - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    private static func number(_ rest: inout Substring.UTF8View, _ digits: Int) -> Int? {
        let field = rest.prefix(digits)
        guard field.count == digits, field.allSatisfy(isDigit) else { return nil }
        rest = rest.dropFirst(digits)
        return field.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
    }
    private static func skip(_ rest: inout Substring.UTF8View, _ characters: Unicode.Scalar...) -> Bool {
        guard let first = rest.first, characters.contains(Unicode.Scalar(first)) else { return false }
        rest = rest.dropFirst()
        return true
    }
}
