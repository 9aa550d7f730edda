/// Whom the fake API server asks before it takes an object: the webhooks of ValidatingWebhookConfigurations, over TLS
/// that believes in nothing but their `caBundle`, on a connection for each question.
import FoundationEssentials
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// A write that webhooks must be asked about.
struct FakeQuestion: Sendable {
    var webhooks: [FakeWebhook] = []
    var review = ""
}

struct FakeWebhook: Sendable {
    let name: String
    /// Of a Service: `shop/web`.
    let service: String
    /// By which its certificate is judged: `web.shop.svc`.
    let host: String
    let path: String
    let bundle: String
    let ignoresFailures: Bool
    private let rules: [JSONValue]

    init(_ value: JSONValue) {
        name = value["name"]?.string ?? ""
        let client = value["clientConfig"]
        let namespace = client?["service"]?["namespace"]?.string ?? ""
        let service = client?["service"]?["name"]?.string ?? ""
        self.service = "\(namespace)/\(service)"
        host = "\(service).\(namespace).svc"
        path = client?["service"]?["path"]?.string ?? "/"
        bundle = client?["caBundle"]?.string ?? ""
        ignoresFailures = value["failurePolicy"]?.string == "Ignore"
        rules = value["rules"]?.elements ?? []
    }

    func wants(_ operation: String, _ target: FakeTarget) -> Bool {
        let resource = target.resource.rawValue + (target.subresource.isEmpty ? "" : "/\(target.subresource)")
        return rules.contains { rule in
            [("operations", operation), ("apiGroups", target.resource.group), ("resources", resource)]
                .allSatisfy { key, value in
                    rule[key]?.elements.contains { $0.string == value || $0.string == "*" } == true
                }
        }
    }
}

enum FakeVerdict: Sendable {
    case allowed(warnings: [String])
    case refused(FakeAnswer)
}

extension FakeAPIServer {
    /// Where a Service of webhooks, `shop/web`, is reached on 127.0.0.1: its endpoints take turns.
    package func reach(_ service: String, at ports: Int...) { state.withLock { $0.webhookPorts[service] = ports } }
    /// Why webhooks gave no verdict, as an API server would log it; the objects were taken.
    package var webhookFailures: [String] { state.withLock { $0.webhookFailures } }
    /// Verdicts that webhooks gave.
    package var webhookAnswers: Int { state.withLock { $0.webhookAnswers } }

    /// nil: nobody needs to be asked.
    func question(_ request: FakeRequest, _ target: FakeTarget, _ body: String, _ state: State) -> FakeQuestion? {
        guard request.method != "GET", request.method != "DELETE" else { return nil }
        let configurations = state.objects[.validatingwebhookconfigurations, default: [:]].sorted { $0.key < $1.key }
        let webhooks = configurations.compactMap { $0.value.value(.validatingwebhookconfigurations)?["webhooks"] }
            .flatMap(\.elements).map(FakeWebhook.init)
        guard !webhooks.isEmpty else { return nil }
        // As the write would end; whoever may not write is refused later.
        var trial = state
        trial.watchers = []
        guard case .success(let user) = admit(request, target, &trial) else { return nil }
        let answer = perform(request, target, JSONValue(body) ?? .object([:]), user, &trial)
        guard answer.code < 300, let object = JSONValue(answer.body) else { return nil }
        var place = target
        place.name = object["metadata"]?["name"]?.string ?? ""
        let old = state.objects[target.resource]?[place.key]?.value(target.resource)
        let operation = old == nil ? "CREATE" : "UPDATE"
        let asked = webhooks.filter { $0.wants(operation, target) }
        guard !asked.isEmpty else { return nil }
        let kind: [String: JSONValue] = [
            "group": .text(target.resource.group), "version": .text("v1"), "kind": .text(target.resource.kind),
        ]
        let review: [String: JSONValue] = [
            "uid": .text("review-\(state.version)"), "kind": .object(kind), "operation": .text(operation),
            "namespace": .text(target.namespace), "name": .text(place.name), "subResource": .text(target.subresource),
            "object": object, "oldObject": old ?? .null, "dryRun": .bool(false),
            "userInfo": .object(["username": .text(user.name)]),
        ]
        let text = JSONValue.object([
            "kind": .text("AdmissionReview"), "apiVersion": .text("admission.k8s.io/v1"), "request": .object(review),
        ])
        return FakeQuestion(webhooks: asked, review: text.json)
    }

    /// One after the other; `then` on a loop.
    func ask(_ question: FakeQuestion, warnings: [String] = [], _ then: @escaping @Sendable (FakeVerdict) -> Void) {
        var rest = question
        guard let webhook = rest.webhooks.first else { return then(.allowed(warnings: warnings)) }
        rest.webhooks.removeFirst()
        let next = rest
        call(webhook, question.review).whenComplete { result in
            switch result.flatMap({ Result(verdict: $0, of: webhook) }) {
            case .success(.refused(let answer)):
                self.state.withLock { $0.webhookAnswers += 1 }
                then(.refused(answer))
            case .success(.allowed(let new)):
                self.state.withLock { $0.webhookAnswers += 1 }
                self.ask(next, warnings: warnings + new, then)
            case .failure(let error):
                let sentence = "failed calling webhook \"\(webhook.name)\": \(error)"
                self.state.withLock { $0.webhookFailures.append(sentence) }
                guard !webhook.ignoresFailures else { return self.ask(next, warnings: warnings, then) }
                then(.refused(FakeAnswer(500, "InternalError", "Internal error occurred: \(sentence)")))
            }
        }
    }

    private func call(_ webhook: FakeWebhook, _ body: String) -> EventLoopFuture<WebhookReply> {
        let loop = group.next()
        let reply = loop.makePromise(of: WebhookReply.self)
        let port = state.withLock { state -> Int? in
            guard let ports = state.webhookPorts[webhook.service], !ports.isEmpty else { return nil }
            state.webhookTurn += 1
            return ports[state.webhookTurn % ports.count]
        }
        let deadline = loop.scheduleTask(in: .seconds(30)) { reply.fail(WebhookFailure("context deadline exceeded")) }
        reply.futureResult.whenComplete { _ in deadline.cancel() }
        do {
            guard let port else { throw WebhookFailure("no endpoints available for service \(webhook.service)") }
            let bundle = Array(Data(base64Encoded: webhook.bundle) ?? Data())
            var tls = TLSConfiguration.makeClientConfiguration()
            tls.trustRoots = .certificates(bundle.isEmpty ? [] : try NIOSSLCertificate.fromPEMBytes(bundle))
            let context = try NIOSSLContext(configuration: tls)
            ClientBootstrap(group: loop).connectTimeout(.seconds(5))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let pipeline = channel.pipeline.syncOperations
                        try pipeline.addHandler(NIOSSLClientHandler(context: context, serverHostname: webhook.host))
                        try pipeline.addHTTPClientHandlers()
                        try pipeline.addHandler(WebhookCall(webhook, body, reply))
                    }
                }
                .connect(host: "127.0.0.1", port: port)
                .whenComplete { result in
                    switch result {
                    case .success(let channel): reply.futureResult.whenComplete { _ in channel.close(promise: nil) }
                    case .failure(let error): reply.fail(error)
                    }
                }
        } catch {
            reply.fail(error)
        }
        return reply.futureResult
    }
}

private struct WebhookReply: Sendable {
    var status = 0
    var body = ""
}
private struct WebhookFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

extension Result where Success == FakeVerdict, Failure == any Error {
    fileprivate init(verdict reply: WebhookReply, of webhook: FakeWebhook) {
        guard reply.status == 200, let response = JSONValue(reply.body)?["response"] else {
            self = .failure(WebhookFailure("it answered \(reply.status): \(reply.body)"))
            return
        }
        let status = response["status"]
        if response["allowed"] == .bool(true) {
            self = .success(.allowed(warnings: response["warnings"]?.elements.compactMap(\.string) ?? []))
        } else {
            let message = status?["message"]?.string.map { "denied the request: \($0)" }
            var answer = FakeAnswer(
                status?["code"]?.integer.map { Int($0) } ?? 403, status?["reason"]?.string ?? "",
                "admission webhook \"\(webhook.name)\" \(message ?? "denied the request without explanation")")
            answer.warnings = response["warnings"]?.elements.compactMap(\.string) ?? []
            self = .success(.refused(answer))
        }
    }
}

private final class WebhookCall: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart
    private let webhook: FakeWebhook
    private let question: String
    private let reply: EventLoopPromise<WebhookReply>
    private var received = WebhookReply()

    init(_ webhook: FakeWebhook, _ question: String, _ reply: EventLoopPromise<WebhookReply>) {
        (self.webhook, self.question, self.reply) = (webhook, question, reply)
    }

    func channelActive(context: ChannelHandlerContext) {
        let body = ByteBuffer(string: question)
        let headers: HTTPHeaders = [
            "Host": webhook.host, "Content-Type": "application/json", "Accept": "application/json",
            "Content-Length": "\(body.readableBytes)",
        ]
        let head = HTTPRequestHead(
            version: .http1_1, method: .POST, uri: webhook.path + "?timeout=30s", headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): received.status = Int(head.status.code)
        case .body(let bytes): received.body += String(buffer: bytes)
        case .end: reply.succeed(received)
        }
    }
    func channelInactive(context: ChannelHandlerContext) { reply.fail(WebhookFailure("EOF")) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        reply.fail(error)
        context.close(promise: nil)
    }
}
