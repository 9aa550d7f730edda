/// The file of `--config`: a YAML mapping of option names to values; lists for options that take several.
import Glibc
package import Options
import Posix
import YAML

package func readConfigurationFile(_ path: String) throws(OptionError) -> [ConfigurationEntry] {
    let bytes = try readBytes(path)
    do throws(YAMLError) {
        var stream = try YAMLStream(bytes)
        guard let first = stream.next() else { return [] }
        let entries = try configurationEntries(try first.get().root)
        if stream.next() != nil { throw YAMLError(line: 1, message: "there is more than one document; keep the first") }
        return entries
    } catch {
        throw OptionError("\(path):\(error.line): \(error.message)")
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

private func readBytes(_ path: String) throws(OptionError) -> [UInt8] {
    do throws(PosixError) { return try readFile(path, limit: 1 << 20) } catch {
        // Far more than all options together need; a device or a wrong file ends here.
        throw OptionError(
            error.code == EFBIG
                ? "configuration file \(path) is larger than 1 MiB; this cannot be the right file"
                : "cannot read configuration file \(path): \(error.reason)")
    }
}
