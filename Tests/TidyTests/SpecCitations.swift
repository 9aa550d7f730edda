/// Rules of behaviour stand in docs/spec and are cited by number: `spec row 94`, `rows 84, 88-93` of
/// service-behaviour.md, `spec 6.2` of l7-behaviour.md, and tests named `rows6To8…`. A citation of what is not there
/// explains nothing.

enum SpecCitations {
    /// The numbers in the first column of every table.
    static func rows(_ markdown: String) -> [Int] {
        markdown.split(separator: "\n").compactMap { line in
            let cells = line.split(separator: "|", omittingEmptySubsequences: false)
            return cells.count > 2 && cells[0].isEmpty ? Int(cells[1].trimmingPrefix(" ").prefix { $0 != " " }) : nil
        }
    }

    /// The numbers of the headings: `6.2`.
    static func sections(_ markdown: String) -> [String] {
        markdown.split(separator: "\n").filter { $0.hasPrefix("### ") }
            .compactMap { $0.split(separator: " ").dropFirst().first.map(String.init) }
    }

    /// Rows cited in a text, with those between the ends of a range.
    static func citedRows(in text: String) -> [Int] {
        places(of: "row", in: text).flatMap { behind -> [Int] in
            guard let list = behind.prefixMatch(of: /s? ?(\d+(?:(?:-|to|To|, and | and |, |and|And)\d+)*)/)?.1 else {
                return []
            }
            return list.replacing(/, and | and |and|And/, with: ", ").split(separator: ", ").flatMap { part -> [Int] in
                let ends = part.replacing(/to|To/, with: "-").split(separator: "-").compactMap { Int($0) }
                guard let first = ends.first, let last = ends.last, first <= last else { return ends }
                return Array(first...last)
            }
        }
    }

    /// Sections cited in a text.
    static func citedSections(in text: String) -> [String] {
        places(of: "pec ", in: text).compactMap { $0.prefixMatch(of: /\d+\.\d+/).map { String($0.0) } }
    }

    /// Without the breaks of lines and what begins a comment: citations go on in the next line.
    static func flowing(_ lines: [String]) -> String {
        guard lines.contains(where: { $0.contains("row") || $0.contains("pec ") }) else { return "" }
        return lines.map { $0.drop { " \t/*#".contains($0) } }.joined(separator: " ")
    }

    /// What follows the word, up to eighty characters, wherever it does not end a longer one.
    private static func places(of word: String, in text: String) -> [Substring] {
        var found: [Substring] = []
        var rest = text[...]
        while let range = rest.firstRange(of: word) {
            let before = text[..<range.lowerBound].last
            rest = rest[range.upperBound...]
            if word == "pec " || before.map({ !$0.isLetter }) ?? true { found.append(rest.prefix(80)) }
        }
        return found
    }
}
