/// The compiler as a whole: incremental work equals work from scratch, and conflicts have one stable winner.
import Addressing
import Cluster
import Compile
import DataplaneIR
import TestSupport
import Testing

@Suite struct CompilerTests {
    private let node = NodeFacts(name: RandomCluster.nodeName, zone: "zone-1")

    @Test func incrementalEqualsFromScratch() {
        var random = SeededGenerator()
        for _ in 0..<60 {
            var cluster = RandomCluster()
            var state = ClusterState()
            var compiler = Compiler(node: node)
            var mirror: [ServicePortID: ServiceProgram] = [:]
            for _ in 0..<60 {
                var dirty = Dirty()
                for _ in 0...Int.random(in: 0..<4, using: &random) {
                    dirty.formUnion(state.apply(cluster.edit(using: &random)))
                }
                let changes = compiler.update(dirty.services, from: state)
                for id in changes.removals { #expect(mirror.removeValue(forKey: id) != nil) }
                for id in changes.upserts {
                    #expect(mirror[id] != compiler.programs[id], "an equal program is no change")
                    mirror[id] = compiler.programs[id]
                }
                var fresh = Compiler(node: node)
                _ = fresh.update(state.knownServices, from: state)
                #expect(compiler.programs == fresh.programs)
                #expect(mirror == fresh.programs)
                #expect(compiler.healthChecks == fresh.healthChecks)
                #expect(compiler.findings.mapValues(Set.init) == fresh.findings.mapValues(Set.init))
            }
        }
    }

    /// `agentctl explain` leaves out just what the program leaves out, and has a reason for each.
    @Test func theExplanationOfEveryEndpointAgreesWithTheProgram() {
        var random = SeededGenerator()
        var cluster = RandomCluster()
        var state = ClusterState()
        var compiler = Compiler(node: node)
        var excluded = 0
        for _ in 0..<300 {
            _ = compiler.update(state.apply(cluster.edit(using: &random)).services, from: state)
            for program in compiler.programs.values {
                for policy in [TrafficPolicy.cluster, .local] {
                    let explained = compiler.explainEndpoints(of: program.id, under: policy, from: state)
                    let taken = explained.filter { $0.exclusion == nil }.map(\.address)
                    #expect(taken == program.backends[program.range(for: policy)].map(\.address).sorted())
                    excluded += explained.count - taken.count
                }
            }
        }
        #expect(excluded > 100, "the test hardly excluded anything")
    }

    @Test func noTwoProgramsHaveTheSameFrontend() {
        var random = SeededGenerator()
        var cluster = RandomCluster()
        var state = ClusterState()
        var compiler = Compiler(node: node)
        for _ in 0..<500 {
            _ = compiler.update(state.apply(cluster.edit(using: &random)).services, from: state)
            var seen = Set<String>()
            for program in compiler.programs.values {
                for frontend in program.frontends {
                    let key =
                        "\(frontend.address?.description ?? "*") \(frontend.port) \(program.id.transport) "
                        + "\(program.id.family)"
                    #expect(seen.insert(key).inserted, "\(key) twice")
                }
            }
        }
    }

    @Test func row17_theOlderServiceKeepsTheAddressWhateverTheOrder() {
        func service(_ name: String, created: Int64) -> Service {
            var service = Service(name: ObjectName("ns", name))
            service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
            service.ports = [Service.Port(port: 80)]
            service.creationTime = created
            return service
        }
        let old = service("z-old", created: 1)
        let young = service("a-young", created: 2)
        for order in [[old, young], [young, old]] {
            var state = ClusterState()
            var compiler = Compiler(node: node)
            for service in order {
                _ = compiler.update(state.apply(.upsert(.service(service))).services, from: state)
            }
            #expect(compiler.programs.keys.map(\.service) == ["z-old"])
            #expect(compiler.findings[young.name]?.map(\.reason) == ["address-conflict"])
            #expect(compiler.findings[old.name] == nil)
            _ = compiler.update(state.apply(.delete(ObjectID(.service, old.name))).services, from: state)
            #expect(compiler.programs.keys.map(\.service) == ["a-young"], "the loser takes over when the winner goes")
            #expect(compiler.findings.isEmpty)
        }
    }

    @Test func row11_anAddressOfEveryNodeIsLeftOutAndSaid() throws {
        let (name, served) = (ObjectName("ns", "a"), IPAddress(v4: 0x0102_0304))
        var service = Service(name: name)
        service.type = .loadBalancer
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        service.ports = [Service.Port(port: 80)]
        service.ingress = [IPAddress(v4: 0x7f00_0001), served].map { Service.Ingress($0) }
        var state = ClusterState()
        var compiler = Compiler(node: node)
        _ = compiler.update(state.apply(.upsert(.service(service))).services, from: state)
        let frontends = compiler.programs.values.flatMap(\.frontends)
        #expect(frontends.filter { $0.kind == .loadBalancer }.map(\.address) == [served])
        #expect(compiler.findings[name]?.map(\.reason).contains("unservable-address") == true)
    }

    @Test func row16_externalIPsCanBeSwitchedOff() {
        var options = CompilerOptions()
        options.servesExternalIPs = false
        var service = Service(name: ObjectName("ns", "s"))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        service.ports = [Service.Port(port: 80)]
        service.externalIPs = [IPAddress(v4: 0x0102_0304)]
        var state = ClusterState()
        var compiler = Compiler(node: node, options: options)
        _ = compiler.update(state.apply(.upsert(.service(service))).services, from: state)
        #expect(compiler.programs.values.flatMap(\.frontends).map(\.kind) == [.clusterIP])
        #expect(compiler.findings[service.name]?.map(\.reason) == ["external-ips-off"])
    }

    @Test func row40_onlyServicesOfOurProxyName() {
        func served(_ label: String?, _ ours: String?) -> Bool {
            var service = Service(name: ObjectName("ns", "s"))
            service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
            service.ports = [Service.Port(port: 80)]
            service.proxyName = label
            var state = ClusterState()
            var compiler = Compiler(node: node, options: CompilerOptions(proxyName: ours))
            _ = compiler.update(state.apply(.upsert(.service(service))).services, from: state)
            return !compiler.programs.isEmpty
        }
        #expect(served(nil, nil) && served("heddle", "heddle"))
        #expect(!served("heddle", nil) && !served(nil, "heddle") && !served("other", "heddle"))
    }

    @Test func aServiceThatBecomesExternalNameAndBack() {
        var state = ClusterState()
        var compiler = Compiler(node: node)
        var service = Service(name: ObjectName("ns", "s"))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        service.ports = [Service.Port(port: 80)]
        for type in [Service.ServiceType.clusterIP, .externalName, .clusterIP] {
            service.type = type
            let changes = compiler.update(state.apply(.upsert(.service(service))).services, from: state)
            #expect(!changes.isEmpty)
            #expect(compiler.programs.isEmpty == (type == .externalName))
        }
    }
}
