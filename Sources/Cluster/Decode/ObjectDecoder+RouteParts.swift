/// The small parts of routes: matches and filters.
import RouteIR

extension ObjectDecoder {
    func httpMatch(_ reader: inout some Reader) throws(DecodeError) -> Route.Match {
        var match = Route.Match()
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "path": match.path = try path(&reader)
            case "method": match.method = try reader.string()
            case "headers": match.headers = try fieldMatches(&reader, lowercased: true)
            case "queryParams": match.query = try fieldMatches(&reader, lowercased: false)
            default: try reader.skip()
            }
        }
        return match
    }

    private enum PathType: String, CaseIterable {
        case exact = "Exact"
        case prefix = "PathPrefix"
        case regularExpression = "RegularExpression"
    }
    private enum TextType: String, CaseIterable {
        case exact = "Exact"
        case regularExpression = "RegularExpression"
    }

    private func path(_ reader: inout some Reader) throws(DecodeError) -> Route.PathMatch {
        var type = PathType.prefix
        var value = "/"
        let line = reader.line
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "type": type = try reader.choice() ?? .prefix
            case "value": value = try reader.string()
            default: try reader.skip()
            }
        }
        guard type == .regularExpression || value.hasPrefix("/") else {
            throw DecodeError("\(quoted(value)) does not begin with /; put one before it", path: "value", line: line)
        }
        return switch type {
        case .exact: .exact(value)
        case .prefix: .prefix(value)
        case .regularExpression: .regularExpression(value)
        }
    }

    /// Of several entries with one name the first counts.
    private func fieldMatches(_ reader: inout some Reader, lowercased: Bool) throws(DecodeError) -> [Route.FieldMatch] {
        var matches: [Route.FieldMatch] = []
        try reader.elements(atMost: 16) { (reader) throws(DecodeError) in
            let line = reader.line
            var name = ""
            let value = try textMatch(&reader) { (reader, key) throws(DecodeError) in
                if case "name" = key { name = try reader.string() } else { try reader.skip() }
            }
            guard !name.isEmpty, let value else { throw DecodeError("needs a name and a value", line: line) }
            if lowercased { name = name.lowercased() }
            if !matches.contains(where: { $0.name == name }) {
                matches.append(Route.FieldMatch(name: name, value: value))
            }
        }
        return matches
    }

    private func textMatch<R: Reader>(
        _ reader: inout R, others: (inout R, FieldKey) throws(DecodeError) -> Void
    ) throws(DecodeError) -> Route.TextMatch? {
        var type = TextType.exact
        var value: String?
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "type": type = try reader.choice() ?? .exact
            case "value": value = try reader.string()
            default: try others(&reader, key)
            }
        }
        return value.map { Route.TextMatch($0, isRegularExpression: type == .regularExpression) }
    }

    func callMatch(_ reader: inout some Reader) throws(DecodeError) -> Route.Match {
        var match = Route.Match()
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "method": match.path = try call(&reader) ?? match.path
            case "headers": match.headers = try fieldMatches(&reader, lowercased: true)
            default: try reader.skip()
            }
        }
        return match
    }

    private func call(_ reader: inout some Reader) throws(DecodeError) -> Route.PathMatch? {
        var type = TextType.exact
        var service = ""
        var method = ""
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "type": type = try reader.choice() ?? .exact
            case "service": service = try reader.string()
            case "method": method = try reader.string()
            default: try reader.skip()
            }
        }
        let text = { $0.isEmpty ? nil : Route.TextMatch($0, isRegularExpression: type == .regularExpression) }
        return service.isEmpty && method.isEmpty ? nil : .call(service: text(service), method: text(method))
    }

    // MARK: Filters

    func filters(_ reader: inout some Reader) throws(DecodeError) -> [Route.Filter] {
        var filters: [Route.Filter] = []
        try reader.elements(atMost: 16) { (reader) throws(DecodeError) in filters.append(try filter(&reader)) }
        return filters
    }

    private func filter(_ reader: inout some Reader) throws(DecodeError) -> Route.Filter {
        let line = reader.line
        var type = ""
        var found: [String: Route.Filter] = [:]
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "type": type = try reader.string()
            case "requestHeaderModifier":
                found["RequestHeaderModifier"] = .ready(.requestHeaders(try headerEdit(&reader)))
            case "responseHeaderModifier":
                found["ResponseHeaderModifier"] = .ready(.responseHeaders(try headerEdit(&reader)))
            case "requestRedirect": found["RequestRedirect"] = try redirect(&reader)
            case "urlRewrite": found["URLRewrite"] = try rewrite(&reader)
            case "requestMirror": found["RequestMirror"] = try mirror(&reader)
            case "cors": found["CORS"] = .ready(.cors(try cors(&reader)))
            default: try reader.skip()
            }
        }
        let known = [
            "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "RequestMirror", "CORS",
        ]
        guard known.contains(type) else { return .unknown(type) }
        guard let filter = found[type] else {
            throw DecodeError("has type \(type) but not the field of that name", line: line)
        }
        return filter
    }

    private func headerEdit(_ reader: inout some Reader) throws(DecodeError) -> HeaderEdit {
        var edit = HeaderEdit()
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "set": edit.set = try headerFields(&reader)
            case "add": edit.add = try headerFields(&reader)
            case "remove":
                try reader.elements(atMost: 16) { (reader) throws(DecodeError) in
                    edit.remove.append(try headerName(&reader))
                }
            default: try reader.skip()
            }
        }
        return edit
    }

    private func headerFields(_ reader: inout some Reader) throws(DecodeError) -> [HeaderField] {
        var fields: [HeaderField] = []
        try reader.elements(atMost: 16) { (reader) throws(DecodeError) in
            let line = reader.line
            var (name, value) = ("", "")
            try reader.fields { (reader, key) throws(DecodeError) in
                switch key {
                case "name": name = try headerName(&reader)
                case "value": value = try reader.string()
                default: try reader.skip()
                }
            }
            // It becomes a line of a request: nothing may end that line early.
            guard !name.isEmpty, value.utf8.allSatisfy({ $0 == 9 || $0 >= 32 && $0 != 127 }) else {
                throw DecodeError("needs a name, and a value without control characters", line: line)
            }
            fields.append(HeaderField(name, value))
        }
        return fields
    }

    private func headerName(_ reader: inout some Reader) throws(DecodeError) -> String {
        let line = reader.line
        let name = try reader.string()
        let isToken = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
            }
        }
        guard isToken, !name.isEmpty else { throw DecodeError("\(quoted(name)) is no name of a header", line: line) }
        return name
    }

    private func redirect(_ reader: inout some Reader) throws(DecodeError) -> Route.Filter {
        var redirect = Redirect()
        var change: Route.PathChange?
        try reader.fields { (reader, key) throws(DecodeError) in
            let line = reader.line
            switch key {
            case "scheme":
                let scheme = try reader.string()
                guard scheme == "http" || scheme == "https" else {
                    throw DecodeError("\(quoted(scheme)) is unknown; use http or https", line: line)
                }
                redirect.scheme = scheme
            case "hostname": redirect.hostname = try reader.hostname()
            case "port": redirect.port = try reader.port()
            case "path": change = try pathChange(&reader)
            case "statusCode":
                let code = try reader.int()
                guard [301, 302, 303, 307, 308].contains(code) else {
                    throw DecodeError("\(code) is no redirection; use 301, 302, 303, 307 or 308", line: line)
                }
                redirect.status = UInt16(code)
            default: try reader.skip()
            }
        }
        return .redirect(redirect, path: change)
    }

    private func rewrite(_ reader: inout some Reader) throws(DecodeError) -> Route.Filter {
        var hostname: String?
        var change: Route.PathChange?
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "hostname": hostname = try reader.hostname()
            case "path": change = try pathChange(&reader)
            default: try reader.skip()
            }
        }
        return .rewrite(hostname: hostname, path: change)
    }

    private enum PathChangeType: String, CaseIterable {
        case full = "ReplaceFullPath"
        case prefix = "ReplacePrefixMatch"
    }

    private func pathChange(_ reader: inout some Reader) throws(DecodeError) -> Route.PathChange? {
        var type: PathChangeType?
        var (full, prefix) = ("", "")
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "type": type = try reader.choice()
            case "replaceFullPath": full = try reader.requestPath()
            case "replacePrefixMatch": prefix = try reader.requestPath()
            default: try reader.skip()
            }
        }
        switch type {
        case .full: return .full(full.hasPrefix("/") ? full : "/" + full)
        case .prefix: return .prefix(prefix)
        case nil: return nil
        }
    }

    private func mirror(_ reader: inout some Reader) throws(DecodeError) -> Route.Filter {
        var target: Route.BackendReference?
        var (numerator, denominator): (UInt32, UInt32) = (100, 100)
        let line = reader.line
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "backendRef":
                target = try backendReference(&reader) { (reader, _) throws(DecodeError) in try reader.skip() }
            case "percent": numerator = UInt32(clamping: try reader.int())
            case "fraction":
                try reader.fields { (reader, key) throws(DecodeError) in
                    switch key {
                    case "numerator": numerator = UInt32(clamping: try reader.int())
                    case "denominator": denominator = UInt32(clamping: try reader.int())
                    default: try reader.skip()
                    }
                }
            default: try reader.skip()
            }
        }
        guard let target else { throw DecodeError("is missing; name a Service", path: "backendRef", line: line) }
        guard denominator > 0, numerator <= denominator else {
            throw DecodeError("mirrors \(numerator) of \(denominator) requests; use at most all of them", line: line)
        }
        return .mirror(target, numerator: numerator, denominator: denominator)
    }

    private func cors(_ reader: inout some Reader) throws(DecodeError) -> CORSPolicy {
        var policy = CORSPolicy()
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "allowOrigins": policy.allowOrigins = try reader.visibleTexts("an origin")
            case "allowMethods": policy.allowMethods = try reader.visibleTexts("a method")
            case "allowHeaders": policy.allowHeaders = try reader.visibleTexts("a header's name")
            case "exposeHeaders": policy.exposeHeaders = try reader.visibleTexts("a header's name")
            case "allowCredentials": policy.allowCredentials = try reader.bool()
            case "maxAge": policy.maxAgeSeconds = UInt32(clamping: try reader.int())
            default: try reader.skip()
            }
        }
        return policy
    }
}

extension ValueReader where Self: ~Copyable, Self: ~Escapable {
    /// Becomes part of a request: no spaces or control characters.
    fileprivate mutating func hostname() throws(DecodeError) -> String { try visibleText("a host name") }
    fileprivate mutating func requestPath() throws(DecodeError) -> String { try visibleText("a path") }

    /// Become part of an answer, where a line's end would end the field.
    fileprivate mutating func visibleTexts(_ what: String) throws(DecodeError) -> [String] {
        var texts: [String] = []
        try elements { (reader, _) throws(DecodeError) in texts.append(try reader.visibleText(what)) }
        return texts
    }

    private mutating func visibleText(_ what: String) throws(DecodeError) -> String {
        let line = line
        let text = try string()
        guard text.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) else {
            throw DecodeError("\(quoted(text)) is not \(what); use visible ASCII characters", line: line)
        }
        return text
    }
}
