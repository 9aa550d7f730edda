/// What each way of an API server to say no means for what is asked next.

extension WatchMachine {
    mutating func refused(_ status: APIStatus, using random: inout some RandomNumberGenerator) -> Verdict {
        switch status.code {
        case _ where status.needsNewList: return historyLost(status)
        case 401: return unauthorized()
        case 403:
            // Somebody must change a role first; asking often would only fill the server's audit log.
            isForbidden = true
            startOver()
            return slowly(resource.forbiddenMessage(status.message))
        case 404 where resource.isOptional:
            isAbsent = true
            startOver()
            return Verdict(
                pace: .after(.seconds(600) * Double.random(in: 0.8...1.2, using: &random)),
                problem: Problem(
                    message: "the API server has no \(resource.plural): the feature is off", isHarmless: true))
        case 404:
            startOver()
            return slowly(
                "the API server does not know \(resource.path) (404); Kubernetes 1.21 or later is needed, and the "
                    + "server's address must not contain another path")
        case 400, 405, 406, 422:
            guard sentStreamedList, !isWatching else { return wait(for: status) }
            refuseStreamedLists()
            return Verdict(pace: .soon(), habit: status.sentence)
        default: return wait(for: status)
        }
    }

    /// At once the first time. The other kinds lose their history at the same moment: spread the lists a little.
    private mutating func historyLost(_ status: APIStatus) -> Verdict {
        lostHistories += 1
        startOver()
        let habit =
            "says that the history of \(resource.plural) it just listed is gone (\(status.code)), again and again; its "
            + "watch cache or etcd does not keep up: look at the load of the control plane"
        return Verdict(pace: relistPace, habit: habit)
    }
    private var relistPace: RequestPacer.Pace {
        lostHistories > 1 ? .backOff() : .soon(spread: .milliseconds(100))
    }

    /// The list that follows says whether it did, and how far.
    mutating func wentBack() -> Verdict {
        lostHistories += 1
        startOver()
        return Verdict(
            pace: relistPace,
            habit: "sends versions of \(resource.plural) that go back, again and again; it, or a proxy "
                + "in front of it, answers from several etcd clusters")
    }

    private mutating func unauthorized() -> Verdict {
        defer { didRefuseCredentials = true }
        if !isWatching { startOver() }
        return Verdict(
            pace: didRefuseCredentials ? .backOff() : .soon(),
            problem: Problem(
                message: "the API server does not accept our credentials (401); check the token or client certificate"))
    }

    private mutating func wait(for status: APIStatus) -> Verdict {
        if !isWatching || status.code < 500 && status.code != 429 { startOver() }
        // Asked to wait, everybody would come back in the same moment: the growing pause is added, never taken away.
        return Verdict(
            pace: .backOff(atLeast: min(status.retryAfter ?? .zero, .seconds(300))),
            problem: Problem(message: "the API server \(status.sentence)"))
    }

    private func slowly(_ message: String) -> Verdict {
        Verdict(pace: .backOff(atLeast: .seconds(10)), problem: Problem(message: message))
    }
}

extension APIStatus {
    /// What it answered and what to do about it. Ends a sentence that begins with the server.
    var sentence: String {
        let said = [reason, message].filter { !$0.isEmpty }.joined(separator: ", ")
        return "answered \(code)\(said.isEmpty ? "" : ": \(said)"); \(remedy)"
    }

    private var remedy: String {
        switch code {
        case _ where message.contains("HTTP request to an HTTPS server"):
            "its port speaks TLS: write https:// in the server's address"
        case 300..<400: "redirects are not followed: write the address it leads to"
        case 407: "the proxy wants credentials: write them into proxy-url"
        case 429, 500...: "it is overloaded or unwell and is asked again; its own log says why"
        case 400..<500:
            "the address may lead to something else than an API server, or a proxy or gateway in front of it forbids "
                + "lists or watches: check the address's scheme, host and port, and ask it with `kubectl get --raw`"
        default: "an API server does not answer so: check the server's address"
        }
    }
}
