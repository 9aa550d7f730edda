/// Takes out what nobody but its owner should read, before anything leaves the node.

enum Redaction {
    static let mark = "[removed]"

    /// The text without secrets, and how many were taken out. It would rather take too much.
    static func clean(_ text: String) -> (text: String, removed: Int) {
        var removed = 0
        var isKey = false
        var lines: [Substring] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            // PEM, of certificates too: a maintainer has no use for them.
            if line.contains("-----BEGIN ") {
                isKey = !line.contains("-----END ")
                removed += 1
                lines.append(Substring(mark))
            } else if isKey {
                isKey = !line.contains("-----END ")
            } else {
                lines.append(Substring(cleanLine(line, &removed)))
            }
        }
        return (lines.joined(separator: "\n"), removed)
    }

    /// Names whose values are secret, wherever they stand: flags, JSON, YAML, headers.
    private static let names = [
        "authorization", "token", "password", "passwd", "secret", "client-key-data", "client-certificate-data",
        "certificate-authority-data", "private-key", "privatekey", "api-key", "apikey", "cookie", "credential",
    ]

    private static func cleanLine(_ line: Substring, _ removed: inout Int) -> String {
        var words: [String] = []
        var hidesNext = false
        for word in line.split(separator: " ", omittingEmptySubsequences: false) {
            // The parts of a query are names and values of their own.
            if word.contains("?") || word.contains("&"), !hidesNext {
                words.append(cleanQuery(word, &removed))
                continue
            }
            if hidesNext, !word.isEmpty {
                // `authorization: Bearer abc` has two words to lose.
                hidesNext = ["bearer", "basic"].contains(word.lowercased())
                words.append(mark)
                removed += 1
            } else if let name = secretName(in: word) {
                words.append(name.value.isEmpty ? String(word) : name.kept + mark)
                removed += name.value.isEmpty ? 0 : 1
                hidesNext = name.value.isEmpty || ["bearer", "basic"].contains(name.value.lowercased())
            } else if ["bearer", "basic"].contains(word.lowercased()) {
                words.append(String(word))
                hidesNext = true
            } else if isTokenLike(word) {
                words.append(mark)
                removed += 1
            } else {
                words.append(String(word))
            }
        }
        return words.joined(separator: " ")
    }

    private static func cleanQuery(_ word: Substring, _ removed: inout Int) -> String {
        var result = ""
        var rest = word
        while !rest.isEmpty {
            let part = rest.prefix { $0 != "?" && $0 != "&" }
            let name = secretName(in: part)
            result += name.map { $0.value.isEmpty ? String(part) : $0.kept + mark } ?? String(part)
            removed += name.map { $0.value.isEmpty ? 0 : 1 } ?? 0
            rest = rest[part.endIndex...]
            result += rest.prefix(1)
            rest = rest.dropFirst()
        }
        return result
    }

    /// `--token=abc`, `"token":"abc"`, `token:`: the part up to the value, and the value.
    private static func secretName(in word: Substring) -> (kept: String, value: String)? {
        guard let end = word.firstIndex(where: { $0 == "=" || $0 == ":" }) else {
            // `--token abc`; a file's name after `--token-file` is no secret.
            let bare = word.lowercased()
            return bare.hasPrefix("--") && names.contains { bare.hasSuffix($0) } ? (String(word), "") : nil
        }
        let name = word[..<end].lowercased().filter { $0 != "\"" && $0 != "'" && $0 != "{" && $0 != "," }
        guard names.contains(where: { name.hasSuffix($0) }) else { return nil }
        let value = word[word.index(after: end)...].filter { $0 != "\"" && $0 != "'" }
        return (String(word[...end]), String(value))
    }

    /// A JSON web token, which is what service accounts have.
    private static func isTokenLike(_ word: Substring) -> Bool {
        let bare = word.drop { !$0.isLetter }
        return bare.hasPrefix("eyJ") && bare.filter { $0 == "." }.count >= 2 && bare.count > 40
    }
}
