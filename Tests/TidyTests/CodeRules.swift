/// Rules about what may stand in a file.

/// A word or phrase that must not stand in code, and where it may for a reason.
struct Ban {
    let phrase: String
    /// Folders the ban holds in.
    let folders: [String]
    let reason: String
    /// Allowed with a comment in one of the three lines above that says why.
    var isExcusedByComment = false
    /// Path to why it is right there.
    var exceptions: [String: String] = [:]

    static let all: [Ban] = [
        Ban(phrase: "try!", folders: ["Sources", "Tests"], reason: "handle the error or let it out"),
        Ban(phrase: "as!", folders: ["Sources", "Tests"], reason: "use `as?` and say what happens otherwise"),
        Ban(
            phrase: "fatalError", folders: ["Sources", "Tests"],
            reason: "use preconditionFailure with a reason, or throw"),
        Ban(phrase: "Task {", folders: ["Sources"], reason: "nobody waits for it: use a task group"),
        Ban(phrase: "Task.detached", folders: ["Sources"], reason: "nobody waits for it: use a task group"),
        Ban(
            phrase: "@unchecked Sendable", folders: ["Sources", "Tests"], reason: "say why it is sound",
            isExcusedByComment: true),
        Ban(
            phrase: "nonisolated(unsafe)", folders: ["Sources", "Tests"], reason: "say why it is sound",
            isExcusedByComment: true),
        Ban(
            phrase: "print(", folders: ["Sources"], reason: "libraries do not print: log, throw or return",
            exceptions: ["Sources/heddle-bench/main.swift": "a program whose product is what it prints"]),
        Ban(
            phrase: "sleep(", folders: ["Tests"], reason: "poll with `eventually`",
            exceptions: ["Tests/Support/Eventually.swift": "the one place that polls"]),
        Ban(
            phrase: "usleep(", folders: ["Tests"], reason: "poll with `eventually`",
            exceptions: [
                "Tests/Support/Eventually.swift": "the one place that polls",
                "Tests/PodDriver/HeldSockets.swift": "paces its traffic",
            ]),
    ]

    func findings(in file: SourceFile) -> [Finding] {
        guard file.isSwift, folders.contains(where: file.isBelow), exceptions[file.path] == nil else { return [] }
        return file.code.indices.compactMap { index in
            guard contains(phrase, asWordsIn: file.code[index]), !(isExcusedByComment && isExplained(index, in: file))
            else { return nil }
            return Finding(path: file.path, line: index + 1, message: "`\(phrase)`: \(reason)")
        }
    }

    private func isExplained(_ index: Int, in file: SourceFile) -> Bool {
        file.lines[max(0, index - 3)...index].contains { $0.contains("//") }
    }
}

/// Finds a phrase that is not part of a longer word.
func contains(_ phrase: String, asWordsIn text: String) -> Bool {
    let text = Array(text.utf8)
    let phrase = Array(phrase.utf8)
    let isWord = { (byte: UInt8) in
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
            || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) || byte == UInt8(ascii: "_")
    }
    guard let first = phrase.first, let last = phrase.last, text.count >= phrase.count else { return false }
    for start in 0...(text.count - phrase.count) where text[start] == first {
        guard text[start..<start + phrase.count].elementsEqual(phrase) else { continue }
        let end = start + phrase.count
        let isJoinedBefore = isWord(first) && start > 0 && isWord(text[start - 1])
        let isJoinedAfter = isWord(last) && end < text.count && isWord(text[end])
        if !isJoinedBefore, !isJoinedAfter { return true }
    }
    return false
}

/// `value!`, in Sources.
func forceUnwraps(in file: SourceFile) -> [Finding] {
    guard file.isSwift, file.isBelow("Sources") else { return [] }
    return file.code.indices.compactMap { index in
        let code = Array(file.code[index])
        let isUnwrap = code.indices.dropFirst().contains { at in
            code[at] == "!" && (code[at - 1].isLetter || code[at - 1].isNumber || ")]".contains(code[at - 1]))
                && (at + 1 == code.count || code[at + 1] != "=")
                // `try!` and `as!` have rules of their own.
                && !String(code[..<at]).hasSuffix("try") && !String(code[..<at]).hasSuffix(" as")
        }
        return isUnwrap
            ? Finding(path: file.path, line: index + 1, message: "force unwrap: use `guard let ... else`") : nil
    }
}

/// The shape of a file: length, width, tabs, an opening comment, nothing left of a skeleton.
func shape(of file: SourceFile) -> [Finding] {
    var findings: [Finding] = []
    let longest = 500
    let widest = 120
    if file.isSwift || file.path.hasSuffix(".c") || file.path.hasSuffix(".h"), file.lines.count > longest {
        findings.append(
            Finding(
                path: file.path, line: 0,
                message: "\(file.lines.count) lines: more than one idea, split it (\(longest))"))
    }
    if file.isSwift {
        if file.lines.first?.hasPrefix("//") != true {
            findings.append(Finding(path: file.path, line: 1, message: "begin with a comment: what lives here and why"))
        }
        if file.name == "Placeholder.swift" {
            findings.append(Finding(path: file.path, line: 0, message: "a placeholder: the module is empty"))
        }
    }
    for (index, line) in file.lines.enumerated() where !file.path.hasSuffix(".md") {
        if line.count > widest {
            findings.append(
                Finding(path: file.path, line: index + 1, message: "\(line.count) columns, more than \(widest)"))
        }
        if file.isSwift, line.contains("\t") {
            findings.append(Finding(path: file.path, line: index + 1, message: "a tab"))
        }
    }
    return findings
}

/// Functions of more than 70 lines.
func longFunctions(in file: SourceFile) -> [Finding] {
    guard file.isSwift else { return [] }
    let limit = 70
    var findings: [Finding] = []
    // Functions whose closing brace is not found yet: the line of `func`, the depth outside; nil until its `{` is seen.
    var open: [(line: Int, depth: Int)] = []
    var pending: Int?
    var depth = 0
    for (index, code) in file.code.enumerated() {
        if contains("func", asWordsIn: code) || contains("init", asWordsIn: code) && code.contains("init(") {
            pending = pending ?? (code.contains(".init(") || code.contains("self.init") ? nil : index)
        }
        for character in code {
            if character == "{" {
                if let line = pending { open.append((line, depth)) }
                pending = nil
                depth += 1
            } else if character == "}" {
                depth -= 1
                guard let last = open.last, last.depth == depth else { continue }
                open.removeLast()
                let count = index - last.line + 1
                if count > limit {
                    findings.append(
                        Finding(
                            path: file.path, line: last.line + 1,
                            message: "a function of \(count) lines (limit \(limit))"))
                }
            }
        }
    }
    return findings
}

/// C that goes into the kernel: a licence it accepts, and a pinned size for every struct that Swift shares.
func kernelCode(in file: SourceFile) -> [Finding] {
    guard file.isBelow("bpf"), file.path.hasSuffix(".c") || file.path.hasSuffix(".h") else { return [] }
    var findings: [Finding] = []
    if file.lines.first?.contains("SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause") != true {
        findings.append(Finding(path: file.path, line: 1, message: "begin with the dual licence line"))
    }
    guard file.name == "abi.h" else { return findings }
    for (index, line) in file.lines.enumerated() where line.hasPrefix("struct ") && line.hasSuffix("{") {
        guard let type = line.split(separator: " ").dropFirst().first else { continue }
        // Either the assertion itself or the header's own short form of it.
        let assertions = ["_Static_assert(sizeof(struct \(type))", "HEDDLE_SIZE(\(type),"]
        if !file.lines.contains(where: { line in assertions.contains { line.contains($0) } }) {
            findings.append(
                Finding(path: file.path, line: index + 1, message: "struct \(type) has no _Static_assert on its size"))
        }
    }
    return findings
}

/// A script that cannot be run is a riddle; a library of shell functions (`*.sh`) need not be runnable.
func scriptModes(of file: SourceFile) -> [Finding] {
    guard file.isBelow("scripts") || file.isBelow(".ci"), file.lines.first?.hasPrefix("#!") == true,
        !file.isExecutable, !file.path.hasSuffix(".sh")
    else { return [] }
    return [Finding(path: file.path, line: 0, message: "has a #! line but is not executable")]
}
