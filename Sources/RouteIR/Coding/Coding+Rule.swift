/// The binary form of route rules. Regular expressions travel as text and are compiled by the reader.

extension RouteRule: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(name)
        writer.tag(kind.rawValue)
        writer.put(matches)
        writer.put(filters)
        writer.put(backends)
        writer.put(timeouts.request)
        writer.put(timeouts.backendRequest)
        writer.put(retry)
    }
    init(from reader: inout WireReader) throws(WireError) {
        let name: String = try reader.take()
        let tag = try reader.byte()
        guard let kind = Kind(rawValue: tag) else { throw reader.unknownTag(tag, "kind of route") }
        self.init(name: name, kind: kind, matches: try reader.take())
        guard !matches.isEmpty else { throw WireError("rule \(name) has no match") }
        filters = try reader.take()
        backends = try reader.take()
        timeouts = Timeouts(request: try reader.take(), backendRequest: try reader.take())
        retry = try reader.take()
    }
}

extension RouteMatch: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(path)
        writer.put(method)
        writer.put(headers)
        writer.put(query)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(
            path: try reader.take(), method: try reader.take(), headers: try reader.take(), query: try reader.take())
    }
}

extension Pattern: WireCoded {
    func write(to writer: inout WireWriter) { writer.put(source) }
    init(from reader: inout WireReader) throws(WireError) {
        let source: String = try reader.take()
        do throws(PatternError) {
            try self.init(source)
        } catch {
            throw WireError("the regular expression `\(source)` has \(error)")
        }
    }
}

extension PathMatch: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .exact(let path):
            writer.tag(0)
            writer.put(path)
        case .prefix(let path):
            writer.tag(1)
            writer.put(path)
        case .regex(let pattern):
            writer.tag(2)
            writer.put(pattern)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .exact(try reader.take())
        case 1: self = .prefix(try reader.take())
        case 2: self = .regex(try reader.take())
        case let tag: throw reader.unknownTag(tag, "path match")
        }
    }
}

extension FieldMatch: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(name)
        switch value {
        case .exact(let text):
            writer.tag(0)
            writer.put(text)
        case .regex(let pattern):
            writer.tag(1)
            writer.put(pattern)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        let name: String = try reader.take()
        switch try reader.byte() {
        case 0: self.init(name, .exact(try reader.take()))
        case 1: self.init(name, .regex(try reader.take()))
        case let tag: throw reader.unknownTag(tag, "field match")
        }
    }
}

extension WeightedBackend.Target: WireCoded {
    func write(to writer: inout WireWriter) {
        switch self {
        case .cluster(let id):
            writer.tag(0)
            writer.put(id)
        case .invalid(let reason):
            writer.tag(1)
            writer.put(reason)
        }
    }
    init(from reader: inout WireReader) throws(WireError) {
        switch try reader.byte() {
        case 0: self = .cluster(try reader.take())
        case 1: self = .invalid(try reader.take())
        case let tag: throw reader.unknownTag(tag, "backend")
        }
    }
}

extension WeightedBackend: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(target)
        writer.put(weight)
        writer.put(filters)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(try reader.take(), weight: try reader.take(), filters: try reader.take())
    }
}

extension RetryPolicy: WireCoded {
    func write(to writer: inout WireWriter) {
        writer.put(attempts)
        writer.put(codes)
        writer.put(backoff)
        writer.tag(classes.rawValue)
    }
    init(from reader: inout WireReader) throws(WireError) {
        self.init(
            attempts: try reader.take(), codes: try reader.take(), backoff: try reader.take(),
            classes: Classes(rawValue: try reader.byte()))
    }
}
