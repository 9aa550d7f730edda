/// Our side of a tunnel as the proxy has it, and a peer that checks nothing, in one program.
import NIOCore
import NIOEmbedded
import NIOSSL

@testable import Proxy

/// `role` is the peer's, whose bytes are changed by `edits`. There is an answer in the end.
func shakeHands(as role: Role, chain: [[UInt8]], edits: [UInt8] = []) -> Result<TunnelPeer, TunnelRefusal> {
    var settings = TLSConfiguration.makeServerConfiguration(
        certificateChain: chain.compactMap { try? .certificate(NIOSSLCertificate(bytes: $0, format: .der)) },
        privateKey: .privateKey(world.keyOfTLS))
    settings.minimumTLSVersion = .tlsv13
    settings.certificateVerification = .none
    settings.applicationProtocols = [Tunnel.protocolName]
    guard settings.certificateChain.count == chain.count, let context = try? NIOSSLContext(configuration: settings)
    else { return .failure(TunnelRefusal(.handshake, "it has nothing to show")) }
    let (ours, theirs) = (EmbeddedChannel(), EmbeddedChannel())
    var result: Result<TunnelPeer, TunnelRefusal>?
    do {
        let tls: NIOSSLHandler
        switch role {
        case .client:
            tls = NIOSSLServerHandler(context: world.ours.tls)
            try theirs.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: context, serverHostname: nil))
        case .server:
            tls = try NIOSSLClientHandler(context: world.ours.tls, serverHostname: nil)
            try theirs.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
        }
        let handshake = TunnelHandshake(tls, roots: world.ours.roots) { facts throws(TunnelRefusal) in
            switch role {
            case .client: try PeerCheck.client(facts, world.mesh, at: wallClock())
            case .server: try PeerCheck.server(facts, world.identity, world.mesh, at: wallClock())
            }
        } then: {
            precondition(result == nil, "two answers")
            result = $0
        }
        try ours.pipeline.syncOperations.addHandlers([tls, handshake])
        let address = try NIOCore.SocketAddress(ipAddress: "127.0.0.1", port: 1)
        // Both have their connection before either says anything.
        for channel in [ours, theirs] { channel.connect(to: address, promise: nil) }
    } catch {
        preconditionFailure("there are no two ends: \(error)")
    }
    settle(ours, theirs, edits)
    for channel in [theirs, ours] {
        channel.close(promise: nil)
        channel.embeddedEventLoop.advanceTime(by: .seconds(30))
    }
    guard let result else { preconditionFailure("no answer") }
    return result
}

/// Until both are quiet.
private func settle(_ ours: EmbeddedChannel, _ theirs: EmbeddedChannel, _ edits: [UInt8]) {
    // Which of the peer's flights, then where in it.
    var (isQuiet, before) = (false, edits.first.map { Int($0 % 3) } ?? 0)
    while !isQuiet {
        isQuiet = true
        while let bytes = try? ours.readOutbound(as: ByteBuffer.self) {
            isQuiet = false
            _ = try? theirs.writeInbound(bytes)
        }
        while let bytes = try? theirs.readOutbound(as: ByteBuffer.self) {
            isQuiet = false
            let changed = before == 0 ? damaged(Array(buffer: bytes), Array(edits.dropFirst())) : Array(buffer: bytes)
            before -= 1
            _ = try? ours.writeInbound(ByteBuffer(bytes: changed))
        }
    }
}
