/// Where bodies end and what is payload in them, in one piece and split at every byte.
import HTTPWire
import Testing

@Suite struct BodyReaderTests {
    @Test func aLengthIsCountedDown() throws {
        var body = BodyReader(.length(5))
        #expect(try body.readAll(Array("hel".utf8)).length == 3)
        #expect(!body.isComplete)
        let rest = try body.readAll(Array("loGET".utf8))
        #expect(rest.length == 2 && rest.payload == Array("lo".utf8))
        #expect(body.isComplete)
    }

    @Test func chunksAreTakenApartAtEverySplit() throws {
        let bytes = crlf("4\nWiki\n6;name=\"v;\"\npedia \n00E\nin \n\nchunks.\n0\nX-Sum: 7\nY: z\n\nNEXT")
        let end = bytes.count - 4
        for split in 0...bytes.count {
            var body = BodyReader(.chunked)
            var (payload, length) = try body.readAll(Array(bytes[..<split]))
            let rest = try body.readAll(Array(bytes[length...]))
            payload += rest.payload
            length += rest.length
            #expect(payload == crlf("Wikipedia in \n\nchunks."), "split at \(split)")
            #expect(length == end && body.isComplete)
            #expect(try body.trailerLines().count == 2)
        }
    }

    @Test(arguments: [
        (BodyFraming.untilClose, true), (.length(1), false), (.chunked, false), (.none, true), (.length(0), true),
    ]) func onlySomeBodiesEndWithTheConnection(_ framing: BodyFraming, _ ends: Bool) {
        var body = BodyReader(framing)
        let hasEnded = body.connectionEnded()
        #expect(hasEnded == ends && body.isComplete == ends)
    }

    @Test func extensionsAndTrailersAreBounded() {
        var long = BodyReader(.chunked)
        let filler = Array(repeating: UInt8(ascii: "a"), count: 20_000)
        #expect(throws: WireViolation(400, .badChunk)) { try long.readAll(Array("1;".utf8) + filler) }
        var many = BodyReader(.chunked)
        let chunks = Array(repeating: Array("1;abcdefghij\r\nx\r\n".utf8), count: 1000).flatMap { $0 }
        #expect(throws: WireViolation(400, .badChunk)) { try many.readAll(chunks) }
        var trailer = BodyReader(.chunked)
        #expect(throws: WireViolation(431, .headTooLong)) { try trailer.readAll(crlf("0\nx: ") + filler) }
    }

    @Test(arguments: [
        ("grpc-status", true), ("X-Sum", true), ("server-timing", true), ("x-forward", true),
        ("X-Forwarded-For", false),
        ("x-forwarded-client-cert", false), ("Forwarded", false), ("X-Real-IP", false), ("x-request-id", false),
        ("X-Envoy-Attempt-Count", false), ("traceparent", false), ("X-B3-TraceId", false), ("Host", false),
        ("keep-alive", false), ("expect", false), ("Access-Control-Allow-Origin", false), ("", false),
    ]) func trailersSayNothingThatOthersVouchFor(_ name: String, _ isAllowed: Bool) {
        let names = Array(name.utf8)
        let isTrailer = names.withUnsafeBytes { isTrailerName($0) }
        #expect(isTrailer == isAllowed)
        let kept = crlf("A: 1\n\(name): x\nB: 2\n\n").withUnsafeBytes { trailerLines($0) { _ in true } }
        #expect(kept == (isAllowed ? nil : crlf("A: 1\nB: 2\n")))
        let none = crlf("A: 1\n\n").withUnsafeBytes { trailerLines($0) { _ in false } }
        #expect(none == [])
    }

    @Test(arguments: [
        ("grpc-status: 0\n\n", "0"), ("Grpc-Status:14\nx: 1\n\n", "14"),
        ("x: grpc-status: 1\ngrpc-status:\t 2 \n\n", "2"),
        ("grpc-status: 3\ngrpc-status: 4\n\n", "3"), ("grpc-status:\n\n", ""), ("grpc-status-x: 5\n\n", nil),
        ("\n", nil),
    ]) func trailersHaveValues(_ text: String, _ value: String?) {
        let found = crlf(text).withUnsafeBytes { raw in
            trailerValue(of: .grpcStatus, in: raw).map { String(decoding: $0, as: UTF8.self) }
        }
        #expect(found == value)
    }
}
