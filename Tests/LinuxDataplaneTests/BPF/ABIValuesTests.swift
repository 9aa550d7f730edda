/// Values to the structs of abi.h and back.
import Addressing
import CDataplaneABI
import DataplaneIR
import TestSupport
import Testing

@testable import LinuxDataplane

@Suite struct ABIValuesTests {
    @Test func addressesLieInNetworkOrder() throws {
        for text in ["10.96.0.1", "fd00:96::1", "::", "255.255.255.255"] {
            let address = try #require(IPAddress(text))
            let raw = heddle_address(address)
            #expect(raw.value == address)
            #expect(withUnsafeBytes(of: raw) { Array($0) } == address.mappedBytes)
        }
    }

    @Test func frontendKeys() throws {
        let id = ServicePortID(namespace: "n", service: "s", portName: "", transport: .udp, family: .ipv6)
        for frontend in [Frontend(.nodePort, nil, 30080), Frontend(.clusterIP, IPAddress("fd00::1"), 53)] {
            let key = FrontendKey(frontend, of: id)
            #expect(FrontendKey(key.raw) == key)
            #expect(key.raw.port == frontend.port.bigEndian)
        }
        #expect(FrontendKey(Frontend(.nodePort, nil, 1), of: id).text == "node port 1/UDP (IPv6)")
        #expect(FrontendKey(live: try #require(IPAddress("10.0.0.1"))).text == "cluster IP 10.0.0.1")
        var raw = FrontendKey(Frontend(.nodePort, nil, 1), of: id).raw
        raw.scope = 9
        #expect(FrontendKey(raw) == nil)
    }

    @Test func namesThatDoNotFitAreRefused() throws {
        let longest = String(repeating: "x", count: 63)
        let id = ServicePortID(namespace: longest, service: "s", portName: "", transport: .tcp, family: .ipv4)
        #expect(try #require(heddle_service_name(id, slot: 7)).id == id)
        let tooLong = ServicePortID(
            namespace: longest + "x", service: "s", portName: "", transport: .tcp, family: .ipv4)
        #expect(heddle_service_name(tooLong, slot: 7) == nil)
    }

    @Test func prefixes() throws {
        for text in ["10.96.0.0/12", "0.0.0.0/0", "fd00:96::/112", "10.0.0.1/32"] {
            let prefix = try #require(IPPrefix(text))
            #expect(heddle_prefix(prefix).value == prefix)
        }
    }

    @Test func reasonsHaveDistinctNames() {
        let names = (0..<HEDDLE_REASON_COUNT.rawValue).map { String(cString: heddle_reason_name($0)) }
        #expect(Set(names).count == names.count)
        #expect(names.contains("unreachable_inconsistent"))
        #expect(String(cString: heddle_reason_name(1000)) == "unknown")
    }

    @Test func blocks() throws {
        var service = BPFService(
            cluster: [at("10.0.0.1:1"), at("10.0.0.2:1")], local: [at("10.0.0.2:1")],
            spare: [at("10.0.0.3:1")], externalPolicy: .local, affinitySeconds: 60)
        let memory = UnsafeMutablePointer<heddle_backend>.allocate(capacity: 8)
        defer { memory.deallocate() }
        for seconds in [60, nil] as [UInt32?] {
            service.affinitySeconds = seconds
            let block = BackendBlock(
                service.program, serviceID: 3, generation: 9, uids: seconds == nil ? [] : [1, 2, 0])
            block.write(to: memory)
            #expect(block.equals(memory))
            #expect(BackendBlock(from: memory, room: 8, serviceID: 3, generation: 9) == block)
            #expect(BackendBlock(from: memory, room: 3, serviceID: 3, generation: 9) == nil, "longer than its room")
            #expect(BackendBlock(from: memory, room: 8, serviceID: 3, generation: 8) == nil)
            #expect(BackendBlock(from: memory, room: 8, serviceID: 4, generation: 9) == nil)
            memory[2].generation = 8
            #expect(BackendBlock(from: memory, room: 8, serviceID: 3, generation: 9) == nil)
            #expect(!block.equals(memory))
        }
    }

    @Test func boundsIncludeWhatIsServed() throws {
        let (v4, v6) = (try #require(IPAddress("10.96.0.9")), try #require(IPAddress("fd00::1")))
        var bounds = FrontendBounds()
        bounds.include(port: 30000)
        bounds.include(clusterIP: v4)
        let node = { FrontendKey(address: FrontendKey.anyAddress(.ipv4), port: $0, transport: 6, scope: .node) }
        #expect(bounds.include(node(30000)))
        #expect(!bounds.include(node(30001)))
        #expect(bounds.include(FrontendKey(live: v4)))
        #expect(!bounds.include(FrontendKey(live: v6)))
        #expect(bounds.include(FrontendKey(address: v6, port: 80, transport: 6, scope: .address)))
    }
}
