/// Which endpoints get nothing for a while because they answered with errors (spec 6.2). Unlike Envoy, of two or more
/// endpoints one may always be ejected, whatever the percentage; the last one never is.
import RouteIR

/// What became of a request, as far as its endpoint is concerned.
package enum RequestOutcome: Hashable, Sendable {
    /// An answer that says nothing against the endpoint.
    case success
    /// 500 to 599 except the following.
    case serverError
    /// 502, 503, 504.
    case gatewayError
    /// It could not be reached, or it broke off.
    case connectionFailure

    package init(status: UInt16) {
        switch status {
        case 502...504: self = .gatewayError
        case 500...599: self = .serverError
        default: self = .success
        }
    }
}

/// What is remembered of one endpoint.
package struct OutlierRecord: Hashable, Sendable {
    package internal(set) var consecutive5xx: UInt32 = 0
    package internal(set) var consecutiveGatewayErrors: UInt32 = 0
    /// nil: not ejected.
    package internal(set) var ejectedUntil: Moment?
    /// How often the ejection time is multiplied: grows with each ejection, falls with each quiet interval.
    package internal(set) var multiplier: UInt32 = 0
    package internal(set) var ejections: UInt64 = 0
    /// How often it would have been ejected but for the limit.
    package internal(set) var spared: UInt64 = 0

    /// True if this outcome is one too many.
    mutating func count(_ outcome: RequestOutcome, _ policy: UpstreamPolicy.OutlierDetection) -> Bool {
        switch outcome {
        case .success:
            consecutive5xx = 0
            consecutiveGatewayErrors = 0
            return false
        case .serverError:
            consecutive5xx += 1
            consecutiveGatewayErrors = 0
        case .gatewayError, .connectionFailure:
            consecutive5xx += 1
            consecutiveGatewayErrors += 1
        }
        return policy.consecutive5xx.map { consecutive5xx >= $0 } == true
            || policy.consecutiveGatewayErrors.map { consecutiveGatewayErrors >= $0 } == true
    }

    mutating func eject(_ policy: UpstreamPolicy.OutlierDetection, now: Moment, jitter: Duration) {
        multiplier += 1
        ejections += 1
        consecutive5xx = 0
        consecutiveGatewayErrors = 0
        ejectedUntil = now + min(policy.baseEjection * Int(multiplier), policy.maxEjection) + jitter
    }
}
