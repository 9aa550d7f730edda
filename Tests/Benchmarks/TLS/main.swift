/// TLS 1.3 by BoringSSL, both ends in this process and nothing between them: what no tunnel can be cheaper than. Run by
/// `scripts/bench mesh`; prints one line of JSON: CPU of one mutual handshake, and of a MB sent and received, in µs.
import Glibc
import NIOCore
import NIOEmbedded
import NIOSSL

struct Ends {
    let client = EmbeddedChannel()
    let server = EmbeddedChannel()

    init(_ context: NIOSSLContext) throws {
        try client.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: context, serverHostname: nil))
        try server.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
        for channel in [client, server] {
            channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1), promise: nil)
        }
        try settle()
    }

    /// What either has for the other passes until both are quiet.
    private func settle() throws {
        while try pass(client, server) || pass(server, client) {}
    }
    private func pass(_ sender: EmbeddedChannel, _ receiver: EmbeddedChannel) throws -> Bool {
        guard let bytes = try sender.readOutbound(as: ByteBuffer.self) else { return false }
        try receiver.writeInbound(bytes)
        return true
    }

    func send(_ bytes: ByteBuffer) throws {
        try client.writeOutbound(bytes)
        try settle()
        var received = 0
        while let part = try server.readInbound(as: ByteBuffer.self) { received += part.readableBytes }
        guard received == bytes.readableBytes else {
            throw IOError(errnoCode: EPROTO, reason: "\(received) of \(bytes.readableBytes) bytes arrived")
        }
    }
}

func cpuMicroseconds(_ count: Int, _ body: () throws -> Void) rethrows -> Double {
    var (begin, end) = (timespec(), timespec())
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin)
    for _ in 0..<count { try body() }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end)
    let nanoseconds = Double(end.tv_sec - begin.tv_sec) * 1e9 + Double(end.tv_nsec - begin.tv_nsec)
    return (nanoseconds / 10 / Double(count)).rounded() / 100
}

let arguments = CommandLine.arguments
guard arguments.count == 5, let count = Int(arguments[4]) else {
    print("usage: bench-tls ROOT CERTIFICATE KEY COUNT, the first three as files in PEM")
    exit(2)
}
var settings = TLSConfiguration.makeServerConfiguration(
    certificateChain: try NIOSSLCertificate.fromPEMFile(arguments[2]).map { .certificate($0) },
    privateKey: .privateKey(try NIOSSLPrivateKey(file: arguments[3], format: .pem)))
settings.minimumTLSVersion = .tlsv13
settings.certificateVerification = .noHostnameVerification
settings.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(arguments[1]))
let context = try NIOSSLContext(configuration: settings)
let megabyte = ByteBuffer(repeating: 120, count: 1 << 20)

let byte = ByteBuffer(repeating: 120, count: 1)
func shakeHands() throws { try Ends(context).send(byte) }
try shakeHands()
let handshake = try cpuMicroseconds(count, shakeHands)
let ends = try Ends(context)
try ends.send(megabyte)
let bulk = try cpuMicroseconds(count) { try ends.send(megabyte) }
print("{\"handshake_us\": \(handshake), \"megabyte_us\": \(bulk)}")
