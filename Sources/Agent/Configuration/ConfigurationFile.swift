/// The file of `--config`: a YAML mapping of option names to values; lists for options that take several.
import Glibc
import Options
import YAML

func readConfigurationFile(_ path: String) throws(ConfigurationError) -> [ConfigurationEntry] {
    let bytes = try readBytes(path)
    do throws(YAMLError) {
        var stream = try YAMLStream(bytes)
        guard let first = stream.next() else { return [] }
        let entries = try configurationEntries(try first.get().root)
        if stream.next() != nil { throw YAMLError(line: 1, message: "there is more than one document; keep the first") }
        return entries
    } catch {
        throw ConfigurationError("\(path):\(error.line): \(error.message)")
    }
}

private func configurationEntries(_ root: YAMLNode) throws(YAMLError) -> [ConfigurationEntry] {
    guard root.kind == .mapping else {
        throw YAMLError(line: root.line, message: "this is not a list of keys and values like `log-level: debug`")
    }
    var result: [ConfigurationEntry] = []
    for (key, value) in root.entries {
        let text: String
        switch value.kind {
        case .scalar: text = value.text
        case .sequence:
            guard value.elements.allSatisfy({ $0.kind == .scalar }) else {
                throw YAMLError(line: value.line, message: "\(key.text): a list may hold only plain values")
            }
            text = value.elements.map(\.text).joined(separator: ",")
        case .mapping: throw YAMLError(line: value.line, message: "\(key.text): a value is wanted, not keys")
        }
        result.append(ConfigurationEntry(key: key.text, value: text, line: key.line))
    }
    return result
}

private func readBytes(_ path: String) throws(ConfigurationError) -> [UInt8] {
    let refused = { ConfigurationError("cannot read configuration file \(path): \(String(cString: strerror(errno)))") }
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw refused() }
    defer { close(file) }
    // Far more than all options together need; a device or a wrong file ends here.
    let limit = 1 << 20
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16384)
    while bytes.count <= limit {
        let count = read(file, &chunk, chunk.count)
        guard count >= 0 else { throw refused() }
        if count == 0 { return bytes }
        bytes += chunk[..<count]
    }
    throw ConfigurationError("configuration file \(path) is larger than 1 MiB; this cannot be the right file")
}
