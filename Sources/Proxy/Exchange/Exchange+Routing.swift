/// From a request to the decision: the rule, its filters, the backend.
import Addressing
import Balancing
import HTTPWire
import NIOCore
import RouteIR

/// A request in a buffer, as the matcher wants to see it.
struct BufferedRequest: RequestView {
    let head: MessageHead
    let bytes: ByteBuffer

    private func span<Result>(_ range: ByteRange, _ body: (Span<UInt8>) -> Result) -> Result {
        body(bytes.readableBytesUInt8Span.extracting(range.range))
    }
    func method<Result>(_ body: (Span<UInt8>) -> Result) -> Result { span(head.methodText, body) }
    func path<Result>(_ body: (Span<UInt8>) -> Result) -> Result {
        guard !head.path.isEmpty else {
            // `http://host` stands for `http://host/`.
            let root: [UInt8] = [UInt8(ascii: "/")]
            return body(root.span)
        }
        return span(head.path, body)
    }
    func query<Result>(_ body: (Span<UInt8>) -> Result) -> Result { span(head.query ?? .empty, body) }

    func header(_ name: String, passes test: (Span<UInt8>) -> Bool) -> Bool {
        var first: ByteRange?
        var joined: [UInt8] = []
        for line in head.headers where line.name.count == name.utf8.count && isNamed(line, name) {
            guard let earlier = first else {
                first = line.value
                continue
            }
            if joined.isEmpty { joined = bytes.array(earlier) }
            joined.append(UInt8(ascii: ","))
            joined += bytes.array(line.value)
        }
        guard let first else { return false }
        return joined.isEmpty ? span(first, test) : test(joined.span)
    }

    private func isNamed(_ line: HeaderLine, _ name: String) -> Bool {
        bytes.withUnsafeReadableBytes { bytes in
            var at = Int(line.name.start)
            for wanted in name.utf8 {
                let byte = bytes[at]
                guard (byte &- 0x41 < 26 ? byte | 0x20 : byte) == wanted else { return false }
                at += 1
            }
            return true
        }
    }
}

extension Exchange {
    /// Decides and sets out, or answers at once.
    func start() {
        guard let service else {
            return reply(503, .noUpstream, "cluster_not_found", "no service is configured at \(arrival.dialled)")
        }
        if method == .connect {
            return reply(405, [], "connect_not_allowed", "CONNECT is not routed")
        }
        guard let rules = service.rules(forClientIn: source?.workload.namespace) else {
            return follow(service.ownPlan, service)
        }
        var budget = MatchBudget()
        let match = rules.matcher.match(BufferedRequest(head: head, bytes: bytes), shard.patterns, &budget)
        if budget.isExhausted {
            shard.limited(.patternSteps)
            return reply(
                500, [], "match_budget_exceeded",
                "finding the rule takes too long: the routes of \(service.service.id) need fewer or simpler matches")
        }
        guard let index = match else {
            return reply(404, .noRoute, "route_not_found", "no route matches")
        }
        follow(rules.plans[index], service)
    }

    private func follow(_ plan: RulePlan, _ service: RoutedServiceEntry) {
        self.plan = plan
        record.rule = plan.rule.name
        if let reason = plan.filters.unresolved {
            return reply(500, [], "filter_not_resolved", reason)
        }
        if let cors = plan.filters.cors, isPreflight { return answerPreflight(cors) }
        if let redirect = plan.filters.redirect { return answer(redirect) }
        guard let chosen = plan.sampler.draw(using: &shard.random) else {
            return reply(500, [], "no_backends", "the rule has no backend")
        }
        let backend = plan.backends[chosen]
        if let reason = backend.filters.unresolved { return reply(500, [], "filter_not_resolved", reason) }
        if let redirect = backend.filters.redirect { return answer(redirect) }
        guard case .upstream(let id) = backend.target else {
            guard case .invalid(let reason) = backend.target else { return }
            return reply(500, [], "backend_invalid", reason)
        }
        record.upstreamID = id
        guard let pool = shard.pool(id) else {
            return reply(500, .noUpstream, "cluster_not_found", "\(id) is not configured")
        }
        target = Target(pool: pool, backend: backend)
        machine.mayTry(retryPolicy, isIdempotent: method.isIdempotent)
        chooseHash(pool.policy)
        if pool.upstream.wire == .h2c { sendsHTTP2ToEndpoint() }
        edit(plan, backend)
        target?.head = editedHead(for: pool.upstream.wire)
        let mirrors = (plan.filters.mirrors, backend.filters.mirrors)
        if !mirrors.0.isEmpty || !mirrors.1.isEmpty { startMirrors(mirrors.0 + mirrors.1, plan) }
        if let timeout = requestTimeout(plan) { timers.request = schedule(timeout) { $0.timedOut() } }
        attempt()
    }

    /// The route's, or what a caller of gRPC is willing to wait if that is less.
    private func requestTimeout(_ plan: RulePlan) -> Duration? {
        let asked = isGRPC ? head.value(.grpcTimeout).flatMap { grpcTimeout(bytes.text($0)) } : nil
        guard let limit = plan.rule.timeouts.request else { return asked }
        return min(limit, asked ?? limit)
    }

    func schedule(_ delay: Duration, _ body: @escaping (Exchange) -> Void) -> Scheduled<Void> {
        shard.loop.assumeIsolated().scheduleTask(in: .nanoseconds(Int64(clamping: delay.wholeNanoseconds))) {
            [weak self] in
            if let self, !self.machine.isOver { body(self) }
        }
    }

    // MARK: Filters that answer

    private var isPreflight: Bool { method == .options && head.has(.origin) && head.has(.accessControlRequestMethod) }

    private func answerPreflight(_ cors: CORSPolicy) {
        var headers: [(String, String)] = []
        if let origin = head.value(.origin).map(bytes.text), cors.allows(origin: origin) {
            // A `*` allows what was asked for: with credentials browsers take it for a name.
            let add = { (name: String, allowed: [String], asked: HeaderName) in
                let asked = self.head.value(asked).map(self.bytes.text) ?? (cors.allowCredentials ? "" : "*")
                let value = allowed.contains("*") ? asked : allowed.joined(separator: ", ")
                if !value.isEmpty { headers.append((name, value)) }
            }
            add("access-control-allow-methods", cors.allowMethods, .accessControlRequestMethod)
            add("access-control-allow-headers", cors.allowHeaders, .accessControlRequestHeaders)
            headers.append(("access-control-max-age", "\(cors.maxAgeSeconds)"))
        }
        reply(204, [], "cors_preflight", nil, headers: headers)
    }

    /// What every answer says under this policy. Where the origin decides, caches must know it of each of them, also of
    /// those to nobody and to origins that may not ask (Fetch, "CORS protocol and HTTP caches").
    func corsHeaders(_ cors: CORSPolicy) -> [(String, String)] {
        let isOpen = cors.allowOrigins.contains("*") && !cors.allowCredentials
        var headers = isOpen ? [] : [("vary", "Origin")]
        guard let origin = head.value(.origin).map(bytes.text), cors.allows(origin: origin) else { return headers }
        headers.append(("access-control-allow-origin", isOpen ? "*" : origin))
        if cors.allowCredentials { headers.append(("access-control-allow-credentials", "true")) }
        let exposed = cors.exposeHeaders.filter { $0 != "*" || !cors.allowCredentials }
        if !exposed.isEmpty { headers.append(("access-control-expose-headers", exposed.joined(separator: ", "))) }
        return headers
    }

    private func answer(_ redirect: Redirect) {
        // HTTP/1.0 can do without Host, a URI cannot (RFC 9110, 4.2.1).
        let ownName = service?.service.id.hostname ?? arrival.dialled.address.description
        let authority = head.authority.isEmpty ? ownName : bytes.text(head.authority)
        let path = head.path.isEmpty ? [UInt8(ascii: "/")] : bytes.array(head.path)
        let location = redirect.location(
            scheme: arrival.scheme, host: hostWithoutPort(authority), port: arrival.dialled.port, path: path,
            query: head.query.map(bytes.array))
        reply(
            redirect.status, [], "redirect", nil, headers: [("location", String(decoding: location, as: UTF8.self))])
    }

    // MARK: Hashing

    private func chooseHash(_ policy: UpstreamPolicy) {
        guard case .consistentHash(let inputs) = policy.loadBalancing else { return }
        for input in inputs {
            guard let hash = hash(of: input) else { continue }
            target?.hash = hash
            return
        }
    }
    /// nil: the request does not have it.
    private func hash(of input: UpstreamPolicy.HashInput) -> UInt64? {
        switch input {
        case .sourceIP: return stableHash(arrival.peer.host.utf8)
        case .header(let name):
            var hash: UInt64?
            _ = BufferedRequest(head: head, bytes: bytes).header(name.lowercased()) { value in
                var text: [UInt8] = []
                for index in 0..<value.count { text.append(value[index]) }
                hash = stableHash(text)
                return true
            }
            return hash
        case .query(let name): return queryValue(name).map { stableHash($0.utf8) }
        case .cookie(let name, let path, let ttl):
            if let value = cookie(name) { return stableHash(value.utf8) }
            guard let ttl else { return nil }
            let value = hex(shard.random.next(), 16)
            let age = ttl.components.seconds
            target?.setCookie =
                "\(name)=\(value)" + (age > 0 ? "; Max-Age=\(age)" : "")
                + (path.map { "; Path=\($0)" } ?? "") + "; HttpOnly"
            return stableHash(value.utf8)
        }
    }

    private func queryValue(_ name: String) -> String? {
        guard let query = head.query.map(bytes.text) else { return nil }
        for pair in query.split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if parts[0] == name { return parts.count > 1 ? String(parts[1]) : "" }
        }
        return nil
    }

    private func cookie(_ name: String) -> String? {
        for line in head.headers where line.known == .cookie {
            for pair in bytes.text(line.value).split(separator: ";") {
                let parts = pair.trimmed.split(separator: "=", maxSplits: 1)
                if parts.count == 2, parts[0] == name { return String(parts[1]) }
            }
        }
        return nil
    }

    // MARK: Mirrors

    private func startMirrors(_ mirrors: [Mirror], _ plan: RulePlan) {
        guard !isMirror, form != .upgrade else { return }
        var copies: [Exchange] = []
        for mirror in mirrors {
            guard case .upstream(let id) = mirror.target, let pool = shard.pool(id), mirror.denominator > 0,
                UInt32.random(in: 0..<mirror.denominator, using: &shard.random) < mirror.numerator,
                shard.mayMirror(to: pool)
            else { continue }
            let copy = Exchange(
                shard, sink: MirrorSink.shared, head: head, bytes: bytes, arrival: arrival, mirrorOf: self)
            copy.plan = plan
            let wire = pool.upstream.wire
            let head = target?.head.flatMap { $0.wire == wire ? $0 : nil }
            copy.target = Target(pool: pool, backend: nil, head: head ?? editedHead(for: wire))
            shard.mirrorBegan(copy, to: pool)
            copies.append(copy)
            if pool.upstream.wire == .h2c { sendsHTTP2() }
            shard.stats.mirrored += 1
            copy.timers.request = copy.schedule(.seconds(30)) { $0.giveUp(.upstreamTimeout, "mirror_timeout") }
        }
        self.mirrors += copies
        for copy in copies {
            if hasPlainBody { copy.sendsHTTP2() }
            copy.attempt()
        }
    }
}

/// The host of an authority, an IPv6 address with its brackets.
func hostWithoutPort(_ authority: String) -> String {
    guard let colon = authority.lastIndex(of: ":"), !authority[colon...].contains("]") else { return authority }
    return String(authority[..<colon])
}

/// Nobody sees what a mirror answers.
final class MirrorSink: ResponseSink, Sendable {
    static let shared = MirrorSink()
    var speaksHTTP2: Bool { false }
    var isWritable: Bool { true }
    func forwardHead(_ head: MessageHead, _ bytes: ByteBuffer, isLast: Bool) {}
    func writeHead(_ text: ByteBuffer, isLast: Bool) {}
    func writeBody(_ bytes: ByteBuffer, isLast: Bool) {}
    func flush() {}
    func pauseRequest() {}
    func resumeRequest() {}
    func finished(_ exchange: Exchange, keepsAlive: Bool, trailers: ByteBuffer?) {}
    func aborted(_ exchange: Exchange) {}
    func becameTunnel() {}
    func tunnelEnded() {}
}
