/// What a route does to a request or its answer. The pure parts of redirect and rewrite are here as well, so that the
/// proxy and `explain` agree on them.

package enum RouteFilter: Hashable, Sendable, Codable {
    case requestHeaders(HeaderEdit)
    case responseHeaders(HeaderEdit)
    case redirect(Redirect)
    case rewrite(Rewrite)
    case mirror(Mirror)
    case cors(CORSPolicy)
    /// A filter we do not know or that does not resolve: the request is answered with 500, never let through without.
    case unresolved(String)
}

package struct HeaderField: Hashable, Sendable, Codable {
    package var name: String
    package var value: String

    package init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

/// `set` first, then `add`, then `remove`; names count in any case.
package struct HeaderEdit: Hashable, Sendable, Codable {
    package var set: [HeaderField]
    package var add: [HeaderField]
    package var remove: [String]

    package init(set: [HeaderField] = [], add: [HeaderField] = [], remove: [String] = []) {
        self.set = set
        self.add = add
        self.remove = remove
    }
    package var isEmpty: Bool { self.set.isEmpty && add.isEmpty && remove.isEmpty }
}

package enum PathEdit: Hashable, Sendable, Codable {
    case full(String)
    /// The prefix that the rule matched and what stands in its place.
    case replacePrefix(String, with: String)

    /// The new path (without query). The table of spec 1.9 is this function's test.
    package func applied(to path: [UInt8]) -> [UInt8] {
        switch self {
        case .full(let new): return Array(new.utf8)
        case .replacePrefix(let matched, let replacement):
            let prefix = withoutTrailingSlash(Array(matched.utf8))
            let head = withoutTrailingSlash(Array(replacement.utf8))
            // The `*` of OPTIONS has no prefix that another could stand in for.
            guard path.first == UInt8(ascii: "/"), path.starts(with: prefix) else { return path }
            let new = head + path.dropFirst(prefix.count)
            return new.first == UInt8(ascii: "/") ? new : [UInt8(ascii: "/")] + new
        }
    }

    private func withoutTrailingSlash(_ path: [UInt8]) -> [UInt8] {
        path.last == UInt8(ascii: "/") ? path.dropLast() : path
    }
}

package struct Rewrite: Hashable, Sendable, Codable {
    package var hostname: String?
    package var path: PathEdit?

    package init(hostname: String? = nil, path: PathEdit? = nil) {
        self.hostname = hostname
        self.path = path
    }
}

package struct Redirect: Hashable, Sendable, Codable {
    package var scheme: String?
    package var hostname: String?
    package var path: PathEdit?
    package var port: UInt16?
    package var status: UInt16

    package init(
        scheme: String? = nil, hostname: String? = nil, path: PathEdit? = nil, port: UInt16? = nil, status: UInt16 = 302
    ) {
        self.scheme = scheme
        self.hostname = hostname
        self.path = path
        self.port = port
        self.status = status
    }

    /// The Location of the answer. `host` is the request's Host without a port, `port` the one it was sent to, `path`
    /// and `query` (without `?`, nil if there is none) its own.
    package func location(scheme original: String, host: String, port: UInt16, path: [UInt8], query: [UInt8]?)
        -> [UInt8]
    {
        let scheme = self.scheme ?? original
        let wellKnown: [String: UInt16] = ["http": 80, "https": 443]
        let port = self.port ?? (self.scheme == nil ? port : wellKnown[scheme] ?? port)
        let authority = (hostname ?? host) + (wellKnown[scheme] == port ? "" : ":\(port)")
        // `*` asks about the server, and a URI has no form for it.
        let path = path == [UInt8(ascii: "*")] ? [UInt8(ascii: "/")] : path
        let target = self.path?.applied(to: path) ?? path
        return Array("\(scheme)://\(authority)".utf8) + target + (query.map { [UInt8(ascii: "?")] + $0 } ?? [])
    }
}

/// A copy of the request whose answer is thrown away.
package struct Mirror: Hashable, Sendable, Codable {
    package var target: WeightedBackend.Target
    /// This many of `denominator` requests.
    package var numerator: UInt32
    package var denominator: UInt32

    package init(_ target: WeightedBackend.Target, numerator: UInt32 = 100, denominator: UInt32 = 100) {
        self.target = target
        self.numerator = numerator
        self.denominator = denominator
    }
}

package struct CORSPolicy: Hashable, Sendable, Codable {
    /// `*`, `https://host` or `https://*.host`.
    package var allowOrigins: [String] = []
    package var allowMethods: [String] = []
    package var allowHeaders: [String] = []
    package var exposeHeaders: [String] = []
    package var allowCredentials = false
    package var maxAgeSeconds: UInt32 = 5

    package init() {}

    /// Whether a page of this origin may ask.
    package func allows(origin: String) -> Bool {
        allowOrigins.contains { allowed in
            guard allowed != "*", allowed != origin else { return true }
            guard let star = allowed.firstRange(of: "://*.") else { return false }
            let scheme = allowed[..<star.lowerBound] + "://"
            // The star stands for one label or more, so something must be left for it.
            let suffix = "." + allowed[star.upperBound...]
            return origin.hasPrefix(scheme) && origin.hasSuffix(suffix)
                && origin.utf8.count > scheme.utf8.count + suffix.utf8.count
        }
    }
}
