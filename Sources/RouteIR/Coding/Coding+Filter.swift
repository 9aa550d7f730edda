/// The binary form of filters.

extension RouteFilter: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .requestHeaders(let edit):
            writer.tag(0)
            writer.put(edit)
        case .responseHeaders(let edit):
            writer.tag(1)
            writer.put(edit)
        case .redirect(let redirect):
            writer.tag(2)
            writer.put(redirect)
        case .rewrite(let rewrite):
            writer.tag(3)
            writer.put(rewrite)
        case .mirror(let mirror):
            writer.tag(4)
            writer.put(mirror)
        case .cors(let policy):
            writer.tag(5)
            writer.put(policy)
        case .unresolved(let reason):
            writer.tag(6)
            writer.put(reason)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .requestHeaders(try reader.take())
        case 1: self = .responseHeaders(try reader.take())
        case 2: self = .redirect(try reader.take())
        case 3: self = .rewrite(try reader.take())
        case 4: self = .mirror(try reader.take())
        case 5: self = .cors(try reader.take())
        case 6: self = .unresolved(try reader.take())
        case let tag: throw reader.unknownTag(tag, "filter")
        }
    }
}

extension HeaderField: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(name)
        writer.put(value)
    }
    init(from reader: inout WireReader) throws(WireError) { self.init(try reader.take(), try reader.take()) }
}

extension HeaderEdit: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(set)
        writer.put(add)
        writer.put(remove)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(set: try reader.take(), add: try reader.take(), remove: try reader.take())
    }
}

extension PathEdit: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .full(let path):
            writer.tag(0)
            writer.put(path)
        case .replacePrefix(let matched, let replacement):
            writer.tag(1)
            writer.put(matched)
            writer.put(replacement)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .full(try reader.take())
        case 1: self = .replacePrefix(try reader.take(), with: try reader.take())
        case let tag: throw reader.unknownTag(tag, "change of a path")
        }
    }
}

extension Rewrite: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(hostname)
        writer.put(path)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(hostname: try reader.take(), path: try reader.take())
    }
}

extension Redirect: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(scheme)
        writer.put(hostname)
        writer.put(path)
        writer.put(port)
        writer.put(status)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(
            scheme: try reader.take(), hostname: try reader.take(), path: try reader.take(), port: try reader.take(),
            status: try reader.take())
    }
}

extension Mirror: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(target)
        writer.put(numerator)
        writer.put(denominator)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(try reader.take(), numerator: try reader.take(), denominator: try reader.take())
    }
}

extension CORSPolicy: WireCoded {
    func write(to writer: inout WireWriter) {
        for list in [allowOrigins, allowMethods, allowHeaders, exposeHeaders] { writer.put(list) }
        writer.put(allowCredentials)
        writer.put(maxAgeSeconds)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init()
        allowOrigins = try reader.take()
        allowMethods = try reader.take()
        allowHeaders = try reader.take()
        exposeHeaders = try reader.take()
        allowCredentials = try reader.take()
        maxAgeSeconds = try reader.take()
    }
}
