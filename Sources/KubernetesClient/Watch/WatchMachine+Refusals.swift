/// What each way of an API server to say no means for what is asked next.

extension WatchMachine {
    mutating func refused(_ status: APIStatus, using random: inout some RandomNumberGenerator) {
        switch status.code {
        case _ where status.needsNewList: historyLost(using: &random)
        case 401: unauthorized(using: &random)
        case 403:
            // Somebody must change a role first; asking often would only fill the server's audit log.
            isForbidden = true
            problem = Problem(message: resource.forbiddenMessage(status.message))
            pause = slowly(using: &random)
            startOver()
        case 404 where resource.isOptional:
            isAbsent = true
            problem = Problem(message: "the API server has no \(resource.plural): the feature is off", isHarmless: true)
            pause = .seconds(600) * Double.random(in: 0.8...1.2, using: &random)
            startOver()
        case 404:
            problem = Problem(
                message: "the API server does not know \(resource.path); Kubernetes 1.21 or later is needed, and the "
                    + "server's address must not contain another path")
            pause = slowly(using: &random)
            startOver()
        case 400, 405, 406,
            422 where sentStreamedList:
            refuseStreamedLists()
        default:
            wait(for: status, using: &random)
        }
    }

    private mutating func historyLost(using random: inout some RandomNumberGenerator) {
        lostHistories += 1
        startOver()
        // At once the first time. The other kinds lose their history at the same moment: spread the lists a little.
        pause =
            lostHistories > 1 ? backoff.next(using: &random) : .milliseconds(Int.random(in: 0...100, using: &random))
    }

    private mutating func unauthorized(using random: inout some RandomNumberGenerator) {
        problem = Problem(
            message: "the API server does not accept our credentials (401); check the token or client certificate")
        if didRenewCredentials {
            pause = backoff.next(using: &random)
        } else {
            mustRenewCredentials = true
        }
        if !isWatching { startOver() }
    }

    private mutating func wait(for status: APIStatus, using random: inout some RandomNumberGenerator) {
        let said = status.message.isEmpty ? "" : ": \(status.message)"
        problem = Problem(message: "the API server answered \(status.code)\(said)")
        let own = backoff.next(using: &random)
        // Asked to wait, everybody would come back in the same moment: add to it, never take away.
        pause = status.retryAfter.map { min($0, .seconds(300)) + own } ?? own
        if !isWatching || status.code < 500 && status.code != 429 { startOver() }
    }

    private func slowly(using random: inout some RandomNumberGenerator) -> Duration {
        .seconds(20) * Double.random(in: 0.5...1.5, using: &random)
    }
}
