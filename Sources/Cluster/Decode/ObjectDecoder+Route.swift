/// HTTPRoutes and GRPCRoutes: the object, its parents and rules. Limits and defaults are those of the API (spec 1.9).
import RouteIR

extension ObjectDecoder {
    mutating func route(_ kind: Route.Kind, _ reader: inout some Reader) throws(DecodeError) -> Route {
        var route = Route(kind: kind, name: ObjectName("", ""))
        var drafts: [ParentDraft] = []
        var entries: [RouteRecord.Entry] = []
        let metadata = try object(&reader, isNamespaced: true, labels: .ours) {
            (decoder, reader, key) throws(DecodeError) in
            if case "status" = key, decoder.options.keepsRouteRecords { return entries = try reader.statusEntries() }
            guard case "spec" = key else { return try reader.skip() }
            try reader.fields { (reader, key) throws(DecodeError) in
                switch key {
                case "parentRefs":
                    try reader.elements { (reader, _) throws(DecodeError) in
                        drafts.append(try decoder.parent(&reader))
                    }
                case "hostnames": route.hostnames = try reader.strings()
                case "rules":
                    try reader.elements(atMost: 16) { (reader) throws(DecodeError) in
                        route.rules.append(try decoder.rule(kind, &reader))
                    }
                default: try reader.skip()
                }
            }
        }
        route.name = metadata.name
        route.creationTime = metadata.creationTime
        route.annotations = metadata.annotations
        for (place, draft) in drafts.enumerated() where draft.isService {
            route.parents.append(draft.parent(defaultNamespace: metadata.name.namespace, place: place))
        }
        if options.keepsRouteRecords {
            var record = metadata.record
            record.parentNamespaces = drafts.filter(\.isService).map(\.namespace)
            record.entries = entries
            route.record = record
        }
        route.resolveNamespaces()
        guard route.rules.reduce(0, { $0 + $1.matches.count }) <= 128 else {
            throw DecodeError("has more than 128 matches; split the route", path: "spec.rules", line: 1)
        }
        // A route without rules matches everything and has nowhere to send it (the API puts in such a rule).
        if route.rules.isEmpty { route.rules = [Route.Rule()] }
        return route
    }

    /// A parent before the route's namespace is known: `metadata` may come later.
    private struct ParentDraft {
        var group = "gateway.networking.k8s.io"
        var kind = "Gateway"
        var name = ""
        var namespace: String?
        var port: UInt16?
        var sectionName: String?

        var isService: Bool { group.isEmpty && kind == "Service" }

        func parent(defaultNamespace: String, place: Int) -> Route.Parent {
            var parent = Route.Parent(
                service: ObjectName(namespace ?? defaultNamespace, name), port: port, sectionName: sectionName)
            parent.place = place
            return parent
        }
    }

    private func parent(_ reader: inout some Reader) throws(DecodeError) -> ParentDraft {
        var draft = ParentDraft()
        let line = reader.line
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "group": draft.group = try reader.string()
            case "kind": draft.kind = try reader.string()
            case "name": draft.name = try reader.string()
            case "namespace": draft.namespace = try reader.string()
            case "port": draft.port = try reader.port()
            case "sectionName": draft.sectionName = try reader.string()
            default: try reader.skip()
            }
        }
        guard !draft.name.isEmpty else {
            throw DecodeError("is missing; name the Service", path: "name", line: line)
        }
        return draft
    }

    private func rule(_ kind: Route.Kind, _ reader: inout some Reader) throws(DecodeError) -> Route.Rule {
        var rule = Route.Rule()
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "name": rule.name = try reader.string()
            case "matches":
                try reader.elements(atMost: 64) { (reader) throws(DecodeError) in
                    rule.matches.append(try kind == .http ? httpMatch(&reader) : callMatch(&reader))
                }
            case "filters": rule.filters = try filters(&reader)
            case "backendRefs":
                try reader.elements(atMost: 16) { (reader) throws(DecodeError) in
                    rule.backends.append(try backend(&reader))
                }
            case "timeouts": rule.timeouts = try timeouts(&reader)
            case "retry": rule.retry = try retry(&reader)
            default:
                rule.ignoredFields.append(key.string)
                try reader.skip()
            }
        }
        return rule
    }

    private func backend(_ reader: inout some Reader) throws(DecodeError) -> Route.Backend {
        var weight: UInt32 = 1
        var own: [Route.Filter] = []
        let reference = try backendReference(&reader) { (reader, key) throws(DecodeError) in
            switch key {
            case "weight":
                let line = reader.line
                let value = try reader.int()
                guard (0...1_000_000).contains(value) else {
                    throw DecodeError("\(value) is not allowed; use 0 to 1000000", line: line)
                }
                weight = UInt32(value)
            case "filters": own = try filters(&reader)
            default: try reader.skip()
            }
        }
        var backend = Route.Backend(reference)
        backend.weight = weight
        backend.filters = own
        return backend
    }

    private func timeouts(_ reader: inout some Reader) throws(DecodeError) -> RouteRule.Timeouts {
        var timeouts = RouteRule.Timeouts()
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            // 0 switches a timeout off.
            case "request": timeouts.request = try reader.duration().flatMap { $0 == .zero ? nil : $0 }
            case "backendRequest": timeouts.backendRequest = try reader.duration().flatMap { $0 == .zero ? nil : $0 }
            default: try reader.skip()
            }
        }
        if let request = timeouts.request, let backend = timeouts.backendRequest, backend > request {
            throw DecodeError(
                "is longer than the timeout of the request; make it at most that", path: "backendRequest",
                line: reader.line)
        }
        return timeouts
    }

    private func retry(_ reader: inout some Reader) throws(DecodeError) -> RetryPolicy {
        var policy = RetryPolicy(attempts: 1)
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "codes":
                try reader.elements { (reader, _) throws(DecodeError) in
                    let line = reader.line
                    let code = try reader.int()
                    guard (400...599).contains(code) else {
                        throw DecodeError("\(code) is not allowed; use 400 to 599", line: line)
                    }
                    policy.codes.append(UInt16(code))
                }
            case "attempts": policy.attempts = UInt32(clamping: try reader.int())
            case "backoff": policy.backoff = try reader.duration() ?? policy.backoff
            default: try reader.skip()
            }
        }
        return policy
    }

    /// Also reads `weight` and `filters` of a backendRef, through `others`.
    func backendReference<R: Reader>(
        _ reader: inout R, others: (inout R, FieldKey) throws(DecodeError) -> Void
    ) throws(DecodeError) -> Route.BackendReference {
        let line = reader.line
        var reference = Route.BackendReference(name: ObjectName("", ""))
        var (name, namespace) = ("", "")
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "group": reference.group = try reader.string()
            case "kind": reference.kind = try reader.string()
            case "name": name = try reader.string()
            case "namespace": namespace = try reader.string()
            case "port": reference.port = try reader.port()
            default: try others(&reader, key)
            }
        }
        guard !name.isEmpty else { throw DecodeError("is missing; name the Service", path: "name", line: line) }
        reference.name = ObjectName(namespace, name)
        return reference
    }
}

extension Route {
    /// References without a namespace mean the route's own.
    fileprivate mutating func resolveNamespaces() {
        let own = name.namespace
        func resolve(_ reference: inout BackendReference) {
            if reference.name.namespace.isEmpty { reference.name = ObjectName(own, reference.name.name) }
        }
        func resolve(_ filters: inout [Filter]) {
            for index in filters.indices {
                guard case .mirror(var target, let numerator, let denominator) = filters[index] else { continue }
                resolve(&target)
                filters[index] = .mirror(target, numerator: numerator, denominator: denominator)
            }
        }
        for rule in rules.indices {
            resolve(&rules[rule].filters)
            for backend in rules[rule].backends.indices {
                resolve(&rules[rule].backends[backend].reference)
                resolve(&rules[rule].backends[backend].filters)
            }
        }
    }
}

extension ValueReader where Self: ~Copyable, Self: ~Escapable {
    /// The elements of a list the API limits.
    mutating func elements(
        atMost limit: Int, _ body: (inout Self) throws(DecodeError) -> Void
    ) throws(DecodeError) {
        try elements { (reader, index) throws(DecodeError) in
            guard index < limit else {
                throw DecodeError("is one more than the \(limit) allowed; split the route", line: reader.line)
            }
            try body(&reader)
        }
    }

    /// The entries of a status. What is none is kept as well: it is not ours to judge.
    fileprivate mutating func statusEntries() throws(DecodeError) -> [RouteRecord.Entry] {
        var entries: [RouteRecord.Entry] = []
        try fields { (reader, key) throws(DecodeError) in
            guard case "parents" = key else { return try reader.skip() }
            try reader.elements { (reader, _) throws(DecodeError) in
                var controller = ""
                let json = try reader.readRaw { (reader) throws(DecodeError) in
                    guard reader.kind == .object else { return try reader.skip() }
                    try reader.fields { (reader, key) throws(DecodeError) in
                        guard case "controllerName" = key, reader.kind == .string else { return try reader.skip() }
                        controller = try reader.string()
                    }
                }
                entries.append(RouteRecord.Entry(controllerName: controller, json: json))
            }
        }
        return entries
    }

    /// GEP-2257: `1h30m`, `500ms`; nil for the empty text.
    mutating func duration() throws(DecodeError) -> Duration? {
        let line = line
        let text = try string()
        guard !text.isEmpty else { return nil }
        guard let duration = Duration(gatewayText: text) else {
            throw DecodeError("\(quoted(text)) is no duration; write it like 500ms, 10s or 1h30m", line: line)
        }
        return duration
    }
}

extension Duration {
    /// Up to four numbers of up to five digits, each with h, m, s or ms (GEP-2257).
    package init?(gatewayText text: String) {
        var rest = text.utf8[...]
        var total = Duration.zero
        var parts = 0
        while !rest.isEmpty {
            let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            rest = rest.dropFirst(digits.count)
            guard (1...5).contains(digits.count), parts < 4 else { return nil }
            let value = digits.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
            let unit = rest.prefix { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) }
            rest = rest.dropFirst(unit.count)
            switch String(Substring(unit)) {
            case "h": total += .seconds(value * 3600)
            case "m": total += .seconds(value * 60)
            case "s": total += .seconds(value)
            case "ms": total += .milliseconds(value)
            default: return nil
            }
            parts += 1
        }
        guard parts > 0 else { return nil }
        self = total
    }
}
