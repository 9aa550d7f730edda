/// One connection to the fake API server: reads requests and answers them.
import NIOCore
import NIOHTTP1
import Synchronization

final class FakeConnection: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let box: Box
    private var head: HTTPRequestHead?
    private var body = ""

    init(server: Box) { box = server }

    func channelActive(context: ChannelHandlerContext) {
        let channel = context.channel
        let isAway = box.server.withLock { $0 }?.state.withLock { state in
            if !state.isAway { state.connections[ObjectIdentifier(channel)] = channel }
            return state.isAway
        }
        guard isAway != true else { return context.close(promise: nil) }
        context.fireChannelActive()
    }
    func channelInactive(context: ChannelHandlerContext) {
        let id = ObjectIdentifier(context.channel)
        box.server.withLock { $0 }?.state.withLock { state in
            state.connections[id] = nil
            state.watchers.removeAll { ObjectIdentifier($0.channel) == id }
        }
        context.fireChannelInactive()
    }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): (self.head, body) = (head, "")
        case .body(let bytes): body += String(buffer: bytes)
        case .end:
            guard let head, let server = box.server.withLock({ $0 }) else { return context.close(promise: nil) }
            server.answer(head, body, context.channel)
        }
    }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

extension FakeAPIServer {
    func answer(_ head: HTTPRequestHead, _ body: String, _ channel: any Channel) {
        let parts = head.uri.split(separator: "?", maxSplits: 1).map(String.init)
        var query: [String: String] = [:]
        for pair in parts.count > 1 ? parts[1].split(separator: "&") : [] {
            let sides = pair.split(separator: "=", maxSplits: 1).map(String.init)
            query[sides[0]] = sides.count > 1 ? percentDecoded(sides[1]) : ""
        }
        var headers: [String: String] = [:]
        for header in head.headers { headers[header.name.lowercased()] = header.value }
        let target = FakeTarget(path: parts[0])
        let isOfCluster = target.map { $0.namespace.isEmpty && $0.name.isEmpty } == true
        let request = FakeRequest(
            resource: isOfCluster ? target?.resource : nil, method: head.method.rawValue, path: parts[0], query: query,
            headers: headers)
        answer(FakeExchange(request: request, target: target, body: body, channel: channel))
    }
    func answer(_ exchange: FakeExchange) {
        let question = state.withLock { state -> FakeQuestion? in
            guard state.holds?(exchange.request) != true else {
                state.held.append(exchange)
                return nil
            }
            guard let target = exchange.target else { return FakeQuestion() }
            return self.question(exchange.request, target, exchange.body, state) ?? FakeQuestion()
        }
        guard let question else { return }
        ask(question) { verdict in
            switch verdict {
            case .allowed(let warnings): self.take(exchange, warnings)
            case .refused(let answer):
                self.state.withLock { $0.requests.append(exchange.request) }
                self.reply(exchange.channel, answer)
            }
        }
    }
    private func take(_ exchange: FakeExchange, _ warnings: [String]) {
        let (request, channel) = (exchange.request, exchange.channel)
        state.withLock { state in
            state.requests.append(request)
            let user: FakeUser
            switch admit(request, exchange.target, &state) {
            case .failure(let refusal): return reply(channel, refusal.answer)
            case .success(let asking): user = asking
            }
            guard let target = exchange.target, offers(target.resource, state) else {
                return refuse(channel, 404, "NotFound", "the server could not find the requested resource")
            }
            if target.resource == .events, request.method == "POST" {
                create(exchange.body, channel, &state)
            } else if request.method != "GET" {
                guard var answer = write(request, target, exchange.body, user, &state) else { return }
                answer.warnings = warnings
                reply(channel, answer)
            } else if target.name.isEmpty {
                answer(request, target, channel, &state)
            } else if let object = state.objects[target.resource]?[target.key] {
                reply(channel, object.json(target.resource))
            } else {
                reply(channel, notFound(target))
            }
        }
    }
    private func offers(_ resource: FakeResource, _ state: State) -> Bool {
        switch resource {
        case .servicecidrs: state.options.hasServiceCIDRs
        case .httproutes, .grpcroutes: state.options.hasGatewayAPI
        default: true
        }
    }

    /// One event of each name.
    private func create(_ body: String, _ channel: any Channel, _ state: inout State) {
        guard !state.options.forbidsEvents else { return refuse(channel, 403, "Forbidden", "events is forbidden") }
        let name = body.split(separator: "\"name\":\"").dropFirst().first?.prefix { $0 != "\"" }.description ?? ""
        guard state.eventNames.insert(name).inserted else { return refuse(channel, 409, "AlreadyExists", "exists") }
        state.createdEvents.append(body)
        reply(channel, body)
    }

    private func answer(
        _ request: FakeRequest, _ target: FakeTarget, _ channel: any Channel, _ state: inout State
    ) {
        let resource = target.resource
        var fault: FakeFault?
        if state.faults[resource]?.isEmpty == false { fault = state.faults[resource]?.removeFirst() }
        switch fault {
        case .status(let code, let reason, let message, let headers):
            return refuse(channel, code, reason, message, headers)
        case .body(let text): return reply(channel, text)
        case .silence: return
        default: break
        }
        let selectors = Selectors(
            namespace: target.namespace, label: request.query["labelSelector"] ?? "",
            field: request.query["fieldSelector"] ?? "")
        if request.isWatch {
            watch(request, resource, selectors, fault, channel, &state)
        } else {
            list(request, resource, selectors, fault, channel, &state)
        }
    }

    // MARK: Lists

    /// The continue token is the number of objects before the page and the version of the first page.
    private func list(
        _ request: FakeRequest, _ resource: FakeResource, _ selectors: Selectors, _ fault: FakeFault?,
        _ channel: any Channel, _ state: inout State
    ) {
        var start = 0
        var version = state.version
        if let parts = request.query["continue"]?.split(separator: "-").compactMap({ Int($0) }), parts.count == 2 {
            (start, version) = (parts[0], parts[1])
            guard version >= state.forgotten else {
                return refuse(channel, 410, "Expired", "The provided continue parameter is too old")
            }
        }
        var all = (state.objects[resource] ?? [:]).sorted { $0.key < $1.key }.map(\.value)
        all.removeAll { !$0.matches(selectors) }
        if case .empty = fault { all = [] }
        let size = min(state.options.pageSize, request.query["limit"].flatMap { Int($0) } ?? Int.max)
        let page = all.dropFirst(start).prefix(size)
        let rest = all.count - start - page.count
        let more = rest > 0 ? #","continue":"\#(start + page.count)-\#(version)","remainingItemCount":\#(rest)"# : ""
        let items = page.map { $0.json(resource) }.joined(separator: ",")
        reply(
            channel,
            #"{"kind":"\#(resource.kind)List","apiVersion":"\#(resource.apiVersion)","#
                + #""metadata":{"resourceVersion":"\#(version)"\#(more)},"items":[\#(items)]}"#,
            fault: fault)
    }

    // MARK: Watches

    private func watch(
        _ request: FakeRequest, _ resource: FakeResource, _ selectors: Selectors, _ fault: FakeFault?,
        _ channel: any Channel, _ state: inout State
    ) {
        let isStreamedList = request.isStreamedList && !state.options.ignoresStreamedLists
        guard !isStreamedList || state.options.offersStreamedLists else {
            return refuse(
                channel, 422, "Invalid",
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature "
                    + "gate is enabled")
        }
        var text = ""
        let asked = request.query["resourceVersion"].flatMap { Int($0) } ?? 0
        if asked == 0 {
            for object in (state.objects[resource] ?? [:]).sorted(by: { $0.key < $1.key }).map(\.value) {
                if case .empty = fault { break }
                text += line(Event(version: object.resourceVersion, new: object, old: nil), resource, selectors) ?? ""
            }
            if isStreamedList { text += bookmark(resource, state.version, endsList: true) }
        } else if asked < state.forgotten {
            return refuse(channel, 410, "Expired", "too old resource version: \(asked) (\(state.forgotten))")
        } else {
            for event in state.events[resource] ?? [] where event.version > asked {
                text += line(event, resource, selectors) ?? ""
            }
        }
        begin(channel)
        if case .endAtOnce = fault { return end(channel) }
        guard deliver(text, to: channel, fault) else { return }
        state.watchers.append(Watcher(channel: channel, resource: resource, selectors: selectors))
    }

    // MARK: Answers

    private func begin(_ channel: any Channel) {
        let head = HTTPResponseHead(version: .http1_1, status: .ok, headers: ["Content-Type": "application/json"])
        write([.head(head)], channel)
    }

    private func reply(_ channel: any Channel, _ text: String, fault: FakeFault? = nil) {
        begin(channel)
        if deliver(text, to: channel, fault) { end(channel) }
    }

    /// False: the connection was cut.
    private func deliver(_ text: String, to channel: any Channel, _ fault: FakeFault?) -> Bool {
        switch fault {
        case .cut(let count):
            let bytes = ByteBuffer(bytes: text.utf8.prefix(count))
            write([.body(.byteBuffer(bytes))], channel, thenCut: true)
            return false
        case .drip(let size):
            var rest = ByteBuffer(string: text)
            while let piece = rest.readSlice(length: min(size, rest.readableBytes)), piece.readableBytes > 0 {
                write([.body(.byteBuffer(piece))], channel)
            }
        default: if !text.isEmpty { send(text, to: channel) }
        }
        return true
    }

    private func refuse(
        _ channel: any Channel, _ code: Int, _ reason: String, _ message: String, _ headers: [String: String] = [:]
    ) {
        reply(channel, FakeAnswer(code, reason, message, headers))
    }
    private func reply(_ channel: any Channel, _ answer: FakeAnswer) {
        var head = HTTPResponseHead(version: .http1_1, status: .init(statusCode: answer.code))
        for (name, value) in answer.headers { head.headers.add(name: name, value: value) }
        for warning in answer.warnings {
            head.headers.add(name: "Warning", value: "299 - \(JSONValue.quoted(warning))")
        }
        write([.head(head), .body(.byteBuffer(ByteBuffer(string: answer.body))), .end(nil)], channel)
    }
}

private func percentDecoded(_ text: String) -> String {
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
        if byte == UInt8(ascii: "%"), let code = UInt8(String(Substring(rest.prefix(2))), radix: 16) {
            bytes.append(code)
            rest = rest.dropFirst(2)
        } else {
            bytes.append(byte)
        }
    }
    return String(decoding: bytes, as: UTF8.self)
}
