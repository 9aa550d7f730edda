/// Keeps the certificate of the webhook's door: every replica reads it from the Secret and serves by it; the leader
/// makes it, tells API servers of its authority, and puts another in its place in time, as `WebhookPlan` says. Replicas
/// do not tell each other what they serve: the plan goes by time.
import AdminAPI
import AdminServer
import Admission
import Glibc
import KubernetesClient
import Signing
import Synchronization

final class WebhookKeeper: Sendable {
    struct Timing: Sendable {
        var plan = WebhookPlan.Timing()
        /// Between two looks at the Secret.
        var reading = Duration.seconds(10)
    }
    /// What is seen and done between two pauses.
    private struct Memory {
        var secret = WebhookSecret()
        /// nil: there is no Secret, or it cannot be read.
        var version: String?
        var configuration: WebhookConfiguration?
        /// Whether that is known.
        var isConfigurationKnown = false
        var bundleSince = 0
        /// Fingerprint.
        var served = ""
        var problems: [String] = []
    }
    private static let stepsAtOnce = 8

    /// For the door.
    let certificate = ServedCertificate()
    private struct Serving {
        let since: Int
        let end: Int
    }
    private struct State {
        var serving: Serving?
        var report = ControllerStatus.Webhook()
    }
    private let state = Mutex(State())
    private let writer: ObjectWriter
    private let leadership: Leadership
    private let secret: ObjectAddress
    private let configuration = ObjectAddress(
        group: "admissionregistration.k8s.io", plural: "validatingwebhookconfigurations",
        kind: "ValidatingWebhookConfiguration", name: "heddle")
    private let names: [String]
    private let timing: Timing
    /// Seconds since 1970.
    private let now: @Sendable () -> Int
    private let (turns, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))

    /// `names`: DNS names of the Service that is in front of the door.
    init(
        _ writer: ObjectWriter, _ leadership: Leadership, namespace: String, names: [String],
        timing: Timing = Timing(), now: @escaping @Sendable () -> Int = { Glibc.time(nil) }
    ) {
        (self.writer, self.leadership, self.names) = (writer, leadership, names)
        (self.timing, self.now) = (timing, now)
        secret = ObjectAddress(
            group: "", plural: "secrets", kind: "Secret", namespace: namespace, name: "heddle-webhook")
    }

    /// The replica leads now: what is to be done is done at once.
    func lead() { wake.yield() }

    var report: ControllerStatus.Webhook {
        let time = now()
        return state.withLock { state in
            var report = state.report
            report.servingSeconds = state.serving.map { Double(time - $0.since) }
            report.certificateEndsInSeconds = state.serving.map { Double($0.end - time) }
            return report
        }
    }
    /// Of the certificate that is served, in seconds since 1970.
    var certificateEnd: Int? { state.withLock { $0.serving?.end } }

    /// Until the task is cancelled. `tell` hears of each problem as it comes, `note` of what was done.
    func run(tell: @escaping @Sendable (String) -> Void, note: @escaping @Sendable (String) -> Void) async {
        await withDiscardingTaskGroup { group in
            group.addTask { [timing, wake] in
                while !Task.isCancelled {
                    wake.yield()
                    try? await Task.sleep(for: timing.reading)
                }
            }
            var memory = Memory()
            for await _ in turns {
                let known = memory.problems
                await turn(&memory, note)
                for problem in memory.problems where !known.contains(problem) { tell("webhook: \(problem)") }
            }
            group.cancelAll()
        }
    }

    private func turn(_ memory: inout Memory, _ note: @Sendable (String) -> Void) async {
        for _ in 0..<Self.stepsAtOnce {
            memory.problems = []
            await readSecret(&memory)
            await readConfiguration(&memory)
            let isOn = leadership.isLeading ? await takeStep(&memory, note) : false
            publish(memory)
            guard isOn else { return }
        }
    }

    // MARK: What there is

    private func readSecret(_ memory: inout Memory) async {
        switch await writer.keptData(secret) {
        case .failure(let failure):
            memory.version = nil
            memory.problems.append(
                failure == .gone
                    ? "\(secret) does not exist, so no certificate can be kept; apply the chart, which makes it empty, "
                        + "or turn the webhook off with --webhook off" : failure.sentence)
        case .success(let kept):
            if kept.resourceVersion != memory.version {
                (memory.secret, memory.version) = (WebhookSecret(kept.data), kept.resourceVersion)
            }
            memory.problems += memory.secret.damage.map { "\(secret) is damaged, the leader replaces what is: \($0)" }
            serve(&memory)
        }
    }

    /// What was served stays so until there is something to put in its place.
    private func serve(_ memory: inout Memory) {
        guard let current = memory.secret.current, current.certificate.fingerprint != memory.served else { return }
        do {
            try certificate.set(chain: [current.pem], key: current.key.pem)
            memory.served = current.certificate.fingerprint
            let serving = Serving(since: now(), end: current.certificate.notAfter)
            state.withLock { $0.serving = serving }
        } catch {
            memory.problems.append("the certificate of \(secret) cannot be served: \(error)")
        }
    }

    private func readConfiguration(_ memory: inout Memory) async {
        let before = memory.configuration
        memory.isConfigurationKnown = true
        switch await writer.read(configuration) {
        case .success(let answer):
            let read = try? WebhookConfiguration(answer)
            // Without webhooks it is none.
            memory.configuration = read?.webhooks.isEmpty == false ? read : nil
        case .failure(.gone): memory.configuration = nil
        case .failure(let failure):
            memory.isConfigurationKnown = false
            memory.problems.append(failure.sentence)
        }
        if memory.configuration?.bundle != before?.bundle { memory.bundleSince = now() }
    }

    private func publish(_ memory: Memory) {
        state.withLock { state in
            state.report.problems = memory.problems
            state.report.isConfigured = memory.isConfigurationKnown ? memory.configuration != nil : nil
        }
    }

    // MARK: What the leader does

    /// False: there is nothing to do now, or it cannot be done.
    private func takeStep(_ memory: inout Memory, _ note: @Sendable (String) -> Void) async -> Bool {
        guard let version = memory.version else { return false }
        let cleaning = memory.secret.cleaning
        // Nothing waits for that.
        if !cleaning.isEmpty, await change(cleaning, version, &memory) { return true }
        let time = now()
        var facts = WebhookFacts(names: Set(names))
        facts.certificates = memory.secret.certificates
        (facts.bundle, facts.bundleSince) = (memory.configuration?.bundle, memory.bundleSince)
        guard let step = WebhookPlan(facts, now: time, timing: timing.plan).step else { return false }
        // Whoever is not known to believe in the next must not be served by it.
        guard memory.isConfigurationKnown || step == .makeCurrent else { return false }
        switch step {
        case .publish(let bundle):
            guard await apply(bundle, &memory) else { return false }
            note("webhook: API servers are told of \(bundle.count == 1 ? "its authority" : "both authorities")")
            return true
        case .makeCurrent, .makeNext:
            do {
                let made = try WebhookIdentity.make(for: names, now: time, lifetime: timing.plan.lifetime)
                let changes =
                    step == .makeNext ? WebhookSecret.makingNext(made) : WebhookSecret.makingCurrent(made, now: time)
                guard await change(changes, version, &memory) else { return false }
                note("webhook: a certificate was made" + (step == .makeNext ? ", to be served soon" : ""))
                return true
            } catch {
                memory.problems.append("no certificate can be made: \(error)")
                return false
            }
        case .promote:
            guard let changes = memory.secret.promoting(now: time) else { return false }
            guard await change(changes, version, &memory) else { return false }
            note("webhook: the next certificate is served")
            return true
        case .retire: return await change(WebhookSecret.retiring, version, &memory)
        }
    }

    private func change(_ changes: WebhookSecret.Changes, _ version: String, _ memory: inout Memory) async -> Bool {
        succeeds(
            await writer.setData(changes, of: secret, resourceVersion: version, fence: leadership), &memory)
    }
    private func apply(_ bundle: [String], _ memory: inout Memory) async -> Bool {
        guard let seen = memory.configuration else { return false }
        let patch = String(decoding: webhookPatch(seen.webhooks, bundle: bundle), as: UTF8.self)
        let write = ObjectWrite(
            .apply(manager: "heddle-controller", force: true), configuration, resourceVersion: seen.resourceVersion,
            fields: patch)
        return succeeds(await writer.write(write, fence: leadership), &memory)
    }

    /// After a conflict it is read again, too.
    private func succeeds(_ outcome: WriteOutcome, _ memory: inout Memory) -> Bool {
        switch outcome {
        case .written, .unchanged, .failed(.conflict): return true
        case .failed(.fenced): return false
        case .failed(let failure):
            memory.problems.append(failure.sentence)
            return false
        }
    }
}
