/// Colours for people at a terminal; never in files, pipes or where NO_COLOR asks for none (no-color.org).
import Glibc

struct Paint {
    enum Colour: String {
        case bold = "1"
        case red = "31"
        case green = "32"
        case yellow = "33"
    }
    let isOn: Bool

    static let off = Paint(isOn: false)

    static func forOutput() -> Paint {
        let variable = { (name: String) in getenv(name).map { String(cString: $0) } }
        return Paint(isTerminal: isatty(STDOUT_FILENO) == 1, noColor: variable("NO_COLOR"), terminal: variable("TERM"))
    }

    init(isOn: Bool) { self.isOn = isOn }
    init(isTerminal: Bool, noColor: String?, terminal: String?) {
        isOn = isTerminal && (noColor ?? "").isEmpty && terminal != "dumb"
    }

    /// Of the sequence that this text begins with, if it is one of ours; otherwise 0.
    static func sequenceLength(_ text: Substring.UnicodeScalarView) -> Int {
        for code in [Colour.bold, .red, .green, .yellow].map(\.rawValue) + ["0"] {
            let sequence = "\u{1B}[\(code)m".unicodeScalars
            if text.starts(with: sequence) { return sequence.count }
        }
        return 0
    }

    func callAsFunction(_ colour: Colour, _ text: String) -> String {
        isOn ? "\u{1B}[\(colour.rawValue)m\(text)\u{1B}[0m" : text
    }
}
