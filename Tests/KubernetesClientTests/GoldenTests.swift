/// Objects as a Kubernetes 1.3x API server writes them, with everything we do not want in them.
import Addressing
import Cluster
import PullJSON
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct GoldenTests {
    private static let service = #"""
        {"kind":"Service","apiVersion":"v1","metadata":{"name":"web","namespace":"shop",
        "uid":"5c1d5b3e-8d0f-4a39-9a50-8c3f3c2b1a10","resourceVersion":"48213",
        "creationTimestamp":"2026-02-03T04:05:06Z","labels":{"app":"web","app.kubernetes.io/managed-by":"Helm"},
        "annotations":{
        "kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"kind\":\"Service\"}\n",
        "meta.helm.sh/release-name":"caf\u00e9 \u003cshop\u003e"},"finalizers":[
        "service.kubernetes.io/load-balancer-cleanup"],"managedFields":[{"manager":"helm","operation":"Update",
        "apiVersion":"v1","time":"2026-02-03T04:05:06Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{
        "f:annotations":{".":{},"f:meta.helm.sh/release-name":{}},"f:labels":{".":{},"f:app":{}}},"f:spec":{
        "f:externalTrafficPolicy":{},"f:internalTrafficPolicy":{},"f:ports":{".":{},
        "k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:targetPort":{}}},"f:selector":{},
        "f:sessionAffinity":{},"f:type":{}}}},{"manager":"cloud-controller-manager","operation":"Update",
        "apiVersion":"v1","time":"2026-02-03T04:06:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:status":{
        "f:loadBalancer":{"f:ingress":{}}}},"subresource":"status"}]},"spec":{"ports":[{"name":"http",
        "protocol":"TCP","appProtocol":"http","port":80,"targetPort":"http","nodePort":31080},{"name":"dns",
        "protocol":"UDP","port":53,"targetPort":5353,"nodePort":31053}],"selector":{"app":"web"},
        "clusterIP":"10.96.12.34","clusterIPs":["10.96.12.34","fd00:10:96::c22"],"type":"LoadBalancer",
        "sessionAffinity":"ClientIP","loadBalancerSourceRanges":["192.0.2.0/24"],"externalTrafficPolicy":"Local",
        "healthCheckNodePort":32000,"ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"PreferDualStack",
        "allocateLoadBalancerNodePorts":true,"internalTrafficPolicy":"Cluster","sessionAffinityConfig":{"clientIP":{
        "timeoutSeconds":10800}},"trafficDistribution":"PreferClose"},"status":{"loadBalancer":{"ingress":[{
        "ip":"203.0.113.7","ipMode":"VIP","ports":[{"port":80,"protocol":"TCP","error":null}]}]},"conditions":[]}}
        """#
    private static let slice = #"""
        {"metadata":{"name":"web-x7k2p","generateName":"web-","namespace":"shop",
        "uid":"0f4cf8f2-26b4-4b3e-8b83-0b8a8f5e7f11","resourceVersion":"48377","generation":7,
        "creationTimestamp":"2026-02-03T04:05:06Z","labels":{"app":"web",
        "endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io",
        "kubernetes.io/service-name":"web"},"annotations":{
        "endpoints.kubernetes.io/last-change-trigger-time":"2026-02-03T05:00:00.5Z"},"ownerReferences":[{
        "apiVersion":"v1","kind":"Service","name":"web","uid":"5c1d5b3e-8d0f-4a39-9a50-8c3f3c2b1a10",
        "controller":true,"blockOwnerDeletion":true}],"managedFields":[{"manager":"kube-controller-manager",
        "operation":"Update","apiVersion":"discovery.k8s.io/v1","time":"2026-02-03T05:00:00Z",
        "fieldsType":"FieldsV1","fieldsV1":{"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:ownerReferences":{
        ".":{},"k:{\"uid\":\"5c1d5b3e-8d0f-4a39-9a50-8c3f3c2b1a10\"}":{}}},"f:ports":{}}}]},"addressType":"IPv4",
        "endpoints":[{"addresses":["10.1.0.11"],"conditions":{"ready":true,"serving":true,"terminating":false},
        "targetRef":{"kind":"Pod","namespace":"shop","name":"web-5d9c7b6f4-abcde","uid":"1"},
        "nodeName":"ip-10-0-1-17.eu-central-1.compute.internal","zone":"eu-central-1a","hints":{"forZones":[{
        "name":"eu-central-1a"}]}},{"addresses":["10.1.1.12"],"conditions":{"ready":false,"serving":true,
        "terminating":true},"nodeName":"ip-10-0-2-18.eu-central-1.compute.internal","zone":"eu-central-1b"}],
        "ports":[{"name":"http","protocol":"TCP","port":8080,"appProtocol":"http"}]}
        """#
    private static let node = #"""
        {"kind":"Node","apiVersion":"v1","metadata":{"name":"node-1","uid":"3f","resourceVersion":"48400",
        "creationTimestamp":"2026-01-01T00:00:00Z","labels":{"kubernetes.io/hostname":"node-1",
        "topology.kubernetes.io/zone":"eu-central-1a"},"annotations":{"node.alpha.kubernetes.io/ttl":"0"},
        "managedFields":[{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z",
        "fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{
        "f:lastHeartbeatTime":{}}}}},"subresource":"status"}]},"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":[
        "10.1.0.0/24","fd00:10:1::/64"],"providerID":"aws:///eu-central-1a/i-0abc"},"status":{"capacity":{"cpu":"8",
        "memory":"32Gi"},"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-02-03T05:00:00Z",
        "lastTransitionTime":"2026-01-01T00:01:00Z","reason":"KubeletReady",
        "message":"kubelet is posting ready status"}],"addresses":[{"type":"InternalIP","address":"192.168.50.1"},{
        "type":"Hostname","address":"node-1"}],"nodeInfo":{"kernelVersion":"6.1.0"},"images":[{"names":[
        "registry.k8s.io/pause@sha256:00"],"sizeBytes":312345}]}}
        """#

    private func decode(_ kind: ObjectKind, _ text: String) throws -> (object: ClusterObject, head: ObjectHead) {
        // On one line, as it comes.
        let line = Array(#"{"type":"ADDED","object":\#(text.replacing("\n", with: ""))}"#.utf8)
        let frame = try WatchEventFrame(reading: line.span)
        #expect(frame.type == .added)
        let head = try ObjectHead(reading: frame.object)
        var reader = frame.object
        var decoder = ObjectDecoder()
        let object = try decoder.decode(kind, json: &reader)
        #expect(decoder.notes.isEmpty)
        return (object, head)
    }

    @Test func decodesService() throws {
        let (object, head) = try decode(.service, Self.service)
        #expect(head.name == "web" && head.namespace == "shop" && head.resourceVersion == "48213")
        guard case .service(let service) = object else { throw TestFailure("no service") }
        #expect(service.name == ObjectName("shop", "web"))
        #expect(service.type == .loadBalancer)
        #expect(service.clusterIPs.map(\.description) == ["10.96.12.34", "fd00:10:96::c22"])
        #expect(service.ports.map(\.nodePort) == [31080, 31053])
        #expect(service.ports.map(\.targetPort) == [.name("http"), .number(5353)])
        #expect(service.affinitySeconds == 10800)
        #expect(service.externalTrafficPolicy == .local && service.healthCheckNodePort == 32000)
        #expect(service.ingress.map(\.address.description) == ["203.0.113.7"])
        #expect(service.sourceRanges.count == 1)
        #expect(service.creationTime == 1_770_091_506)
    }

    @Test func decodesSlice() throws {
        let (object, head) = try decode(.endpointSlice, Self.slice)
        #expect(head.resourceVersion == "48377")
        guard case .endpointSlice(let slice) = object else { throw TestFailure("no slice") }
        #expect(slice.service == ObjectName("shop", "web"))
        #expect(slice.endpoints.map(\.address.description) == ["10.1.0.11", "10.1.1.12"])
        #expect(slice.endpoints.map(\.conditions) == [[.ready, .serving, .ofPod], [.serving, .terminating]])
        #expect(slice.endpoints[0].forZones == ["eu-central-1a"])
        #expect(slice.ports == [.init(name: "http", port: 8080)])
        #expect(slice.lastChangeTriggerTime == 1_770_094_800.5)
    }

    @Test func decodesNode() throws {
        guard case .node(let node) = try decode(.node, Self.node).object else { throw TestFailure("no node") }
        #expect(node.zone == "eu-central-1a")
        #expect(node.nodeIPs.map(\.description) == ["192.168.50.1"])
        #expect(node.podCIDRs.count == 2)
    }

    @Test("Type may stand behind the object, as no API server writes it")
    func readsTypeLast() throws {
        let line = Array(#"{"object":{"metadata":{"resourceVersion":"5"}},"type":"BOOKMARK"}"#.utf8)
        let frame = try WatchEventFrame(reading: line.span)
        #expect(frame.type == .bookmark)
        #expect(try ObjectHead(reading: frame.object).resourceVersion == "5")
    }

    @Test("A random cut of a real event is an error, never a wrong object or a trap")
    func refusesCuts() throws {
        var random = SeededGenerator()
        let bytes = Array(Self.service.utf8)
        for _ in 0..<500 {
            let cut = Array(bytes.prefix(Int.random(in: 0..<bytes.count, using: &random)))
            #expect(throws: DecodeError.self) {
                var reader = JSONReader(cut.span)
                var decoder = ObjectDecoder()
                _ = try decoder.decode(.service, json: &reader)
            }
        }
    }
}
