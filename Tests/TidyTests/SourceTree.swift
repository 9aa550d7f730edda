/// The repository as the rules see it: every text file that people write, and for Swift what is left of each line when
/// comments and string contents are taken out, so that a rule about code never trips over prose.
import Glibc
import TestSupport

struct SourceFile {
    /// Relative to the repository: `Sources/Netns/KernelThread.swift`.
    let path: String
    let lines: [String]
    /// `lines` without comments and without what stands inside string literals.
    let code: [String]
    let isExecutable: Bool

    init(path: String, text: String, isExecutable: Bool = false) {
        self.path = path
        self.isExecutable = isExecutable
        lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        code = path.hasSuffix(".swift") ? withoutProse(lines) : lines
    }

    var isSwift: Bool { path.hasSuffix(".swift") }
    var name: String { String(path.split(separator: "/").last ?? "") }
    /// `Netns` for `Sources/Netns/...`.
    var module: String? {
        let parts = path.split(separator: "/")
        return parts.count > 2 ? String(parts[1]) : nil
    }
    func isBelow(_ folder: String) -> Bool { path.hasPrefix(folder + "/") }
}

/// Something a rule does not like.
struct Finding: CustomStringConvertible, Equatable {
    let path: String
    /// Counts from 1; 0: the file as a whole.
    let line: Int
    let message: String
    var description: String { "\(path):\(line): \(message)" }
}

enum SourceTree {
    static let root: String = {
        // This file is <root>/Tests/TidyTests/SourceTree.swift.
        let parts = #filePath.split(separator: "/")
        return "/" + parts.dropLast(3).joined(separator: "/")
    }()

    static let files: [SourceFile] =
        ["Sources", "Tests", "bpf", "scripts", ".ci"].flatMap { read($0) }
        + ["Package.swift", "README.md", "CONTRIBUTING.md"].flatMap { read($0) }

    private static func read(_ path: String) -> [SourceFile] {
        let full = root + "/" + path
        var info = stat()
        guard lstat(full, &info) == 0 else { return [] }
        if info.st_mode & S_IFMT == S_IFDIR {
            return directoryEntries(full).flatMap { read(path + "/" + $0) }
        }
        let binaries = [".o", ".pyc", ".png", ".der"]
        guard !binaries.contains(where: path.hasSuffix) else { return [] }
        return [SourceFile(path: path, text: readText(full), isExecutable: info.st_mode & S_IXUSR != 0)]
    }
}

/// Takes comments and the insides of string literals out, line by line. Code inside `\( )` goes too: it is short.
func withoutProse(_ lines: [String]) -> [String] {
    var state = ProseState()
    return lines.map { state.strip($0) }
}

private struct ProseState {
    /// Nesting of /* */.
    private var comments = 0
    private var isInText = false

    mutating func strip(_ line: String) -> String {
        var rest = Array(line.unicodeScalars)[...]
        var result = String.UnicodeScalarView()
        while !rest.isEmpty {
            if comments > 0 {
                if take("*/", &rest) {
                    comments -= 1
                } else if take("/*", &rest) {
                    comments += 1
                } else {
                    rest.removeFirst()
                }
            } else if isInText {
                if take("\\\"", &rest) { continue }
                if take("\"\"\"", &rest) { isInText = false } else { rest.removeFirst() }
            } else if take("//", &rest) {
                break
            } else if take("/*", &rest) {
                comments += 1
            } else if take("\"\"\"", &rest) {
                isInText = true
            } else if take("\"", &rest) {
                skipString(&rest)
                result.append(contentsOf: "\"\"".unicodeScalars)
            } else {
                result.append(rest.removeFirst())
            }
        }
        return String(result)
    }

    private func skipString(_ rest: inout ArraySlice<Unicode.Scalar>) {
        var parentheses = 0
        while let next = rest.popFirst() {
            if next == "\\", let escaped = rest.popFirst() {
                if escaped == "(" { parentheses = 1 }
                // An interpolation may hold strings of its own.
                while parentheses > 0, let inner = rest.popFirst() {
                    if inner == "(" { parentheses += 1 }
                    if inner == ")" { parentheses -= 1 }
                    if inner == "\"" { skipString(&rest) }
                }
            } else if next == "\"" {
                return
            }
        }
    }

    private func take(_ text: String, _ rest: inout ArraySlice<Unicode.Scalar>) -> Bool {
        guard rest.starts(with: text.unicodeScalars) else { return false }
        rest = rest.dropFirst(text.unicodeScalars.count)
        return true
    }
}
