/// One command line, taken apart.
import Addressing

struct Command {
    let verb: String
    private var words: ArraySlice<String>
    private var options: [String: String] = [:]

    init(_ line: String) throws {
        var positional: [String] = []
        for word in line.split(separator: " ") {
            if let equals = word.firstIndex(of: "=") {
                options[String(word[..<equals])] = String(word[word.index(after: equals)...])
            } else if ["mapped", "claimed", "multipath"].contains(word) {
                options[String(word)] = ""
            } else {
                positional.append(String(word))
            }
        }
        guard let verb = positional.first else { throw Failure("an empty command") }
        self.verb = verb
        words = positional.dropFirst()
    }

    mutating func word(_ what: String) throws -> String {
        guard let word = words.popFirst() else { throw Failure("\(verb) needs \(what)") }
        return word
    }
    mutating func address() throws -> SocketAddress { try parse(try word("ADDRESS:PORT")) }
    mutating func transport() throws -> TransportProtocol {
        let text = try word("tcp or udp")
        guard let transport = TransportProtocol(text), transport != .sctp else {
            throw Failure("unknown transport \(text)")
        }
        return transport
    }
    var isMultipath: Bool { options["multipath"] != nil }
    func number(_ name: String, default standard: Int) throws -> Int {
        guard let text = options[name] else { return standard }
        guard let value = Int(text) else { throw Failure("\(name)=\(text) is not a number") }
        return value
    }

    /// `KIND DESTINATION` and the options that go with it; only `DESTINATION` if `kind` is given.
    mutating func target(kind given: Target.Kind? = nil) throws -> Target {
        let kind: Target.Kind
        if let given {
            kind = given
        } else {
            let text = try word("a kind")
            guard let known = Target.Kind(rawValue: text) else { throw Failure("unknown kind \(text)") }
            kind = known
        }
        return Target(
            kind: kind, destination: try address(), source: try options["source"].map(parse),
            isMapped: options["mapped"] != nil, claimsSource: options["claimed"] != nil,
            isMultipath: isMultipath, timeoutMs: try number("timeout", default: 1000))
    }

    private func parse(_ text: String) throws -> SocketAddress {
        guard let address = SocketAddress(text) else { throw Failure("not an ADDRESS:PORT: \(text)") }
        return address
    }
}
