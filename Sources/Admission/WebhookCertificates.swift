/// When the webhook's certificate is made, and how one takes the other's place without an API server that ever refuses
/// the server: all must know the new authority before any replica serves by it, and the old one until none does. Times
/// are in seconds since 1970; nothing is done here.
import PullJSON

/// A certificate of the webhook's server and the authority that issued it.
package struct WebhookCertificate: Equatable, Sendable {
    /// What tells it from others.
    package let fingerprint: String
    /// The certificate of the authority, in PEM.
    package let authority: String
    /// DNS names that it is for.
    package let names: Set<String>
    package let notBefore: Int
    package let notAfter: Int

    package init(fingerprint: String, authority: String, names: Set<String>, notBefore: Int, notAfter: Int) {
        (self.fingerprint, self.authority, self.names) = (fingerprint, authority, names)
        (self.notBefore, self.notAfter) = (notBefore, notAfter)
    }

    fileprivate func serves(_ wanted: Set<String>, at now: Int) -> Bool {
        now < notAfter && wanted.isSubset(of: names)
    }
}

/// What is kept in the Secret that all replicas read.
package struct WebhookCertificates: Equatable, Sendable {
    /// The one to serve.
    package var current: WebhookCertificate?
    /// Since when it is that.
    package var currentSince = 0
    /// Made, and served by nobody until API servers know its authority.
    package var next: WebhookCertificate?
    /// Served by whoever has not read of `current` yet.
    package var previous: WebhookCertificate?

    package init() {}

    /// What `caBundle` must hold: every authority of which a certificate is served or will be next, each once.
    package var bundle: [String] {
        var result: [String] = []
        for certificate in [current, next, previous] {
            guard let authority = certificate?.authority, !result.contains(authority) else { continue }
            result.append(authority)
        }
        return result
    }
}

/// What the leader sees.
package struct WebhookFacts: Equatable, Sendable {
    package var certificates = WebhookCertificates()
    /// `caBundle` as it is in the ValidatingWebhookConfiguration, certificate by certificate; nil: there is none.
    package var bundle: [String]?
    /// Since when the leader has seen it so.
    package var bundleSince = 0
    /// Fingerprints that replicas serve, by replica; nil: it has not said.
    package var served: [String: String?] = [:]
    /// DNS names by which API servers call.
    package var names: Set<String>

    package init(names: Set<String>) { self.names = names }
}

package struct WebhookPlan: Equatable, Sendable {
    package enum Step: Equatable, Sendable {
        /// A new authority and a certificate of it: to be served at once, as there is no other.
        case makeCurrent
        /// The same, to be served once it is known.
        case makeNext
        /// `caBundle` is to hold these.
        case publish([String])
        /// `next` becomes `current`, and that `previous`.
        case promote
        /// `previous` is forgotten.
        case retire
    }
    package struct Timing: Equatable, Sendable {
        package var lifetime = 90 * 86400
        /// Until every API server knows of a change of `caBundle`.
        package var settling = 120
        /// So long after a change even a replica that says nothing has read it.
        package var overlap = 86400

        package init() {}
        /// Two thirds: a third is left for whatever goes wrong.
        package var rotationAge: Int { lifetime / 3 * 2 }
    }
    /// One at a time: its effect is seen in the next facts. nil: all is as it should be.
    package let step: Step?
    /// When to look again if nothing changes before.
    package let lookAgain: Int

    package init(_ facts: WebhookFacts, now: Int, timing: Timing = Timing()) {
        let certificates = facts.certificates
        guard let current = certificates.current, current.serves(facts.names, at: now) else {
            // Nobody can be asked: what takes over does so without waiting.
            let isReady = certificates.next?.serves(facts.names, at: now) ?? false
            (step, lookAgain) = (isReady ? .promote : .makeCurrent, now)
            return
        }
        if let bundle = facts.bundle, Set(bundle) != Set(certificates.bundle) || bundle.count != Set(bundle).count {
            (step, lookAgain) = (.publish(certificates.bundle), now)
            return
        }
        if let previous = certificates.previous {
            // A replica that serves neither is about to read what it should.
            let isAlone = !facts.served.isEmpty && facts.served.values.allSatisfy { $0 == current.fingerprint }
            let end = min(previous.notAfter, certificates.currentSince + timing.overlap)
            (step, lookAgain) = isAlone || now >= end ? (.retire, now) : (nil, end)
            return
        }
        if let next = certificates.next {
            guard next.serves(facts.names, at: now), next.notBefore <= now else {
                (step, lookAgain) = (.makeNext, now)
                return
            }
            // Without a configuration nobody asks, and who makes one writes both into it.
            let known = facts.bundle == nil ? now : facts.bundleSince + timing.settling
            (step, lookAgain) = now >= known ? (.promote, now) : (nil, known)
            return
        }
        let old = min(current.notBefore + timing.rotationAge, current.notAfter - timing.lifetime / 3)
        // Made by a clock that was ahead: who has the right time may not believe it yet.
        let isAhead = current.notBefore > now
        (step, lookAgain) = now >= old || isAhead ? (.makeNext, now) : (nil, old)
    }
}

/// The members of a patch by which a server-side apply owns nothing but `caBundle` of these webhooks.
package func webhookPatch(_ webhooks: [String], bundle: [String]) -> [UInt8] {
    let encoded = base64(Array(bundle.joined().utf8))
    var json: [UInt8] = []
    json.append(quoted: "webhooks")
    json.append(":")
    json.append(
        list: webhooks.map { name in
            var webhook = Array("{".utf8)
            webhook.append(field: "name", name)
            webhook.append(key: "clientConfig")
            webhook.append("{")
            webhook.append(field: "caBundle", encoded)
            webhook.append("}}")
            return webhook
        })
    return json
}

private func base64(_ bytes: [UInt8]) -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var result: [UInt8] = []
    for start in stride(from: 0, to: bytes.count, by: 3) {
        let group = bytes[start..<min(start + 3, bytes.count)]
        let value = group.reduce(0) { $0 << 8 | Int($1) } << (8 * (3 - group.count))
        for place in 0..<4 {
            result.append(place <= group.count ? alphabet[value >> (18 - 6 * place) & 63] : UInt8(ascii: "="))
        }
    }
    return String(decoding: result, as: UTF8.self)
}
