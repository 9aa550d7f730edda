/// The tables that show answers of the agent, to the letter.
import AdminAPI
import FoundationEssentials
import Observation
import Testing

@testable import AgentCommands

@Suite struct AnswerTableTests {
    private var services: [ServiceView] {
        var web = ServiceView(namespace: "shop", name: "web", port: "http", protocol: "TCP", family: "IPv4")
        web.frontends = ["ClusterIP 10.96.0.10:80", "NodePort *:30080"]
        (web.externalPolicy, web.affinitySeconds, web.clusterEndpoints, web.localEndpoints) = ("Local", 10800, 12, 3)
        var big = ServiceView(namespace: "shop", name: "big", port: "", protocol: "UDP", family: "IPv6")
        big.frontends = ["ClusterIP [fd00::1]:53"]
        big.refused = "the map is full"
        return [web, big]
    }

    @Test func servicesAreLines() {
        #expect(
            serviceTable(services, wide: false) == """
                NAMESPACE  NAME  PORT  PROTO  FRONTENDS                   ENDPOINTS
                shop       web   http  TCP    ClusterIP 10.96.0.10:80 +1  12
                shop       big   -     UDP    REFUSED                     0

                """)
    }

    @Test func policiesAreLines() {
        let rule = PolicyList.Rule(text: "from account shop/client", enforcement: "connections")
        let allow = PolicyList.Policy(
            name: "shop/web", action: "ALLOW", reason: "app=web", isDryRun: false, isUnreadable: false, rules: [rule])
        var dry = PolicyList.Policy(
            name: "shop/d", action: "DENY", reason: "mesh", isDryRun: true, isUnreadable: false, rules: [])
        let pod = PolicyList.Pod(name: "shop/web-0", policies: [dry, allow], otherwise: "denied")
        (dry.isUnreadable, dry.isDryRun) = (true, false)
        let broken = PolicyList.Pod(name: "shop/web-1", policies: [dry], otherwise: "allowed")
        #expect(
            policyTable(PolicyList(pods: [pod, broken], findings: [])) == """
                POD         ACTION          POLICY    FOR      RULE                         ENFORCED
                shop/web-0  DENY (dry run)  shop/d    mesh     none                         -
                shop/web-0  ALLOW           shop/web  app=web  0: from account shop/client  connections
                shop/web-0  -               -         -        anything else                denied
                shop/web-1  DENY            shop/d    mesh     cannot be read               everything is denied
                shop/web-1  -               -         -        anything else                allowed

                """)
    }

    @Test func wideShowsAllOfAService() {
        #expect(
            serviceTable([services[0]], wide: true) == """
                NAMESPACE  NAME  PORT  PROTO  FRONTENDS                                  POLICY         AFFINITY  \
                CLUSTER  LOCAL
                shop       web   http  TCP    ClusterIP 10.96.0.10:80, NodePort *:30080  Cluster/Local  10800s    \
                12       3

                """)
    }

    @Test func endpointsSayWhatTheyAreUsedFor() {
        var ready = EndpointView(slice: "web-1", port: "http", protocol: "TCP", address: "10.1.0.11:8080")
        (ready.ready, ready.serving, ready.local, ready.node, ready.zone) = (true, true, true, "node-1", "a")
        ready.usedFor = ["Cluster", "Local"]
        var leaving = EndpointView(slice: "web-1", port: "", protocol: "TCP", address: "10.1.0.12:8080")
        (leaving.serving, leaving.terminating) = (true, true)
        #expect(
            endpointTable([ready, leaving]) == """
                ADDRESS         PORT  PROTO  STATE                 NODE           ZONE  USED FOR        SLICE
                10.1.0.11:8080  http  TCP    ready                 node-1 (this)  a     Cluster, Local  web-1
                10.1.0.12:8080  -     TCP    terminating, serving  -              -     -               web-1

                """)
    }

    @Test func routesAreInTheirOrder() {
        var canary = RouteList.Entry(service: "shop/cart:80", clients: "all", rule: "shop/c rule 0", match: "/*")
        canary.backends = ["shop/v1:80 90.0%", "shop/v2:80 10.0%"]
        canary.filters = ["set x: y"]
        canary.timeout = "1s"
        #expect(
            routeTable([canary]) == """
                SERVICE       CLIENTS  MATCH  RULE           BACKENDS                            FILTERS   \
                TIMEOUT  RETRIES
                shop/cart:80  all      /*     shop/c rule 0  shop/v1:80 90.0%; shop/v2:80 10.0%  set x: y  \
                1s       -

                """)
    }

    @Test func podsSayWhyTheyAreInTheMesh() throws {
        var web = MeshList.Pod(
            name: "shop/web-0", addresses: ["10.1.0.5"], isEnrolled: true, reason: "heddle.io/mesh=enabled on the pod")
        (web.mode, web.modeSource, web.portModes) = ("STRICT", "PeerAuthentication shop/strict", ["8080": "PERMISSIVE"])
        web.identity = "spiffe://cluster.local/ns/shop/sa/web"
        var bare = MeshList.Pod(name: "shop/bare", addresses: [], isEnrolled: true, reason: "x")
        (bare.mode, bare.problem) = ("PERMISSIVE", "it has no ServiceAccount, and so no identity")
        let host = MeshList.Pod(
            name: "kube-system/p", addresses: [], isEnrolled: false, reason: "uses the network of its node")
        let answer = #"{"identity": "spiffe://cluster.local/ns/shop/sa/web", "state": "valid", "notAfter": 120}"#
        let certificate = try JSONDecoder().decode(CertificateList.Entry.self, from: Data(answer.utf8))
        var list = MeshList(trustDomain: "cluster.local", pods: [web, bare, host], enrolledAddresses: 1, findings: [])
        let open = #"[{"pod":"10.1.0.5","inbound":2,"inboundStreams":5,"outbound":1,"outboundStreams":1}]"#
        list.count(try JSONDecoder().decode([OpenTunnels].self, from: Data(open.utf8)))
        #expect(
            meshTable(list, [certificate], now: 100, isWide: false) == """
                POD            MESH    WHY                                           MODE                      \
                IDENTITY                               CERTIFICATE         TUNNELS
                shop/web-0     in      heddle.io/mesh=enabled on the pod             STRICT (8080 PERMISSIVE)  \
                spiffe://cluster.local/ns/shop/sa/web  valid, ends in 20s  2 in, 1 out
                shop/bare      broken  it has no ServiceAccount, and so no identity  PERMISSIVE                \
                -                                      -                   0 in, 0 out
                kube-system/p  out     uses the network of its node                  -                         \
                -                                      -                   -

                """)
        #expect(meshTable(list, isWide: true).contains("PeerAuthentication shop/strict  8080 PERMISSIVE  spiffe:"))
        #expect(meshTable(list, isWide: true).contains("2 in (5 streams), 1 out (1 stream) "))
    }

    @Test func differencesNameTheObject() {
        let difference = VerifyReport.Difference(object: "map services", detail: "10.96.0.10:80 is missing")
        #expect(
            differenceTable([difference]) == """
                OBJECT        DIFFERENCE
                map services  10.96.0.10:80 is missing

                """)
    }

    @Test func mapsThatCannotFillUpAreWide() {
        let maps = [
            MapUsage(name: "frontends", type: "hash", entries: 3, maxEntries: 12, bytes: 65536),
            MapUsage(name: "services", type: "nft map", entries: 0, maxEntries: 0, bytes: 512),
        ]
        #expect(
            mapTable(maps, all: false) == """
                MAP        TYPE  ENTRIES  MAXIMUM  USED  MEMORY
                frontends  hash  3        12       25%   64.0 KiB

                """)
        #expect(mapTable(maps, all: true).contains("services   nft map  0        -        -     512 B\n"))
    }
}
