/// A Kubernetes object as the fake API server keeps it: what selectors need, and the rest as text.

package struct FakeObject: Sendable, Equatable {
    package var namespace: String
    package var name: String
    package var labels: [String: String] = [:]
    /// More of `metadata`: `"annotations":{}`.
    package var moreMetadata = ""
    /// Of a pod, for field selectors.
    package var nodeName = ""
    /// What follows `metadata`: `"spec":{}`.
    package var body: String
    package var resourceVersion = 0
    package var uid: String
    /// 0: it has none.
    package var generation = 0

    package init(_ namespace: String, _ name: String, labels: [String: String] = [:], body: String = "") {
        self.namespace = namespace
        self.name = name
        self.labels = labels
        self.body = body
        uid = "uid-of-\(name)"
    }
    /// As `json` gives it.
    init(_ value: JSONValue) {
        let metadata = value["metadata"]?.members ?? [:]
        func text(_ members: [String: JSONValue], but known: Set<String>) -> String {
            members.filter { !known.contains($0.key) }.sorted { $0.key < $1.key }
                .map { "\(JSONValue.quoted($0.key)):\($0.value.json)" }.joined(separator: ",")
        }
        namespace = metadata["namespace"]?.string ?? ""
        name = metadata["name"]?.string ?? ""
        labels = (metadata["labels"]?.members ?? [:]).compactMapValues(\.string)
        moreMetadata = text(
            metadata, but: ["namespace", "name", "labels", "uid", "resourceVersion", "generation"])
        nodeName = value["spec"]?["nodeName"]?.string ?? ""
        body = text(value.members, but: ["kind", "apiVersion", "metadata"])
        resourceVersion = metadata["resourceVersion"]?.string.flatMap { Int($0) } ?? 0
        uid = metadata["uid"]?.string ?? ""
        generation = metadata["generation"]?.integer.map { Int($0) } ?? 0
    }

    var key: String { "\(namespace)/\(name)" }

    func json(_ resource: FakeResource) -> String {
        var metadata = [#""name":"\#(name)""#]
        if !namespace.isEmpty { metadata.append(#""namespace":"\#(namespace)""#) }
        metadata.append(#""uid":"\#(uid)","resourceVersion":"\#(resourceVersion)""#)
        if generation > 0 { metadata.append(#""generation":\#(generation)"#) }
        if !labels.isEmpty {
            let pairs = labels.sorted { $0.key < $1.key }.map { #""\#($0.key)":"\#($0.value)""# }
            metadata.append(#""labels":{\#(pairs.joined(separator: ","))}"#)
        }
        if !moreMetadata.isEmpty { metadata.append(moreMetadata) }
        let head = #"{"kind":"\#(resource.kind)","apiVersion":"\#(resource.apiVersion)","metadata":{"#
        return head + metadata.joined(separator: ",") + "}" + (body.isEmpty ? "" : ",") + body + "}"
    }

    /// nil: not JSON, which some tests want.
    func value(_ resource: FakeResource) -> JSONValue? { JSONValue(json(resource)) }

    func matches(_ selectors: Selectors) -> Bool {
        if !selectors.namespace.isEmpty, selectors.namespace != namespace { return false }
        for term in selectors.label.split(separator: ",") {
            let parts = term.split(separator: "=", omittingEmptySubsequences: false).map(String.init)
            let isMatch = term.hasPrefix("!") ? labels[String(term.dropFirst())] == nil : labels[parts[0]] == parts.last
            if !isMatch { return false }
        }
        return selectors.field.split(separator: ",").allSatisfy { term in
            let parts = term.split(separator: "=", omittingEmptySubsequences: false).map(String.init)
            let value = parts[0].hasPrefix("metadata.name") ? name : nodeName
            return parts[0].hasSuffix("!") ? value != parts[1] : value == parts[1]
        }
    }
}

struct Selectors: Sendable {
    /// Empty: all.
    var namespace = ""
    var label = ""
    var field = ""
}

package func service(
    _ name: String, namespace: String = "default", clusterIP: String = "10.96.0.1", port: Int = 80,
    labels: [String: String] = [:]
) -> FakeObject {
    FakeObject(
        namespace, name, labels: labels,
        body: #""spec":{"clusterIP":"\#(clusterIP)","clusterIPs":["\#(clusterIP)"],"type":"ClusterIP","#
            + #""ports":[{"name":"http","port":\#(port),"protocol":"TCP","targetPort":8080}]},"#
            + #""status":{"loadBalancer":{}}"#)
}
package func endpointSlice(
    _ name: String, of service: String, namespace: String = "default", addresses: [String] = ["10.1.0.11"]
) -> FakeObject {
    let endpoints = addresses.map { #"{"addresses":["\#($0)"],"conditions":{"ready":true},"nodeName":"node-1"}"# }
    return FakeObject(
        namespace, name, labels: ["kubernetes.io/service-name": service],
        body: #""addressType":"IPv4","endpoints":[\#(endpoints.joined(separator: ","))],"#
            + #""ports":[{"name":"http","port":8080,"protocol":"TCP"}]"#)
}
package func pod(
    _ name: String, namespace: String = "default", on node: String, as account: String = "default",
    address: String = "", phase: String = "Running"
) -> FakeObject {
    var pod = FakeObject(
        namespace, name,
        body: #""spec":{"nodeName":"\#(node)","serviceAccountName":"\#(account)"},"#
            + #""status":{"phase":"\#(phase)","podIP":"\#(address)"}"#)
    pod.nodeName = node
    return pod
}
package func node(_ name: String) -> FakeObject {
    FakeObject(
        "", name, labels: ["kubernetes.io/hostname": name],
        body: #""spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.0/24"]},"#
            + #""status":{"addresses":[{"type":"InternalIP","address":"192.168.50.1"}]}"#)
}
/// `rule`: more of its only rule than the backend: `"matches":[]`.
package func httpRoute(
    _ name: String, namespace: String = "default", of parent: String, to backend: String, generation: Int = 1,
    rule: String = "", status: String = ""
) -> FakeObject {
    var route = FakeObject(
        namespace, name,
        body: #""spec":{"parentRefs":[{"group":"","kind":"Service","name":"\#(parent)","port":80}],"rules":[{"#
            + #""backendRefs":[{"name":"\#(backend)","port":80}]\#(rule.isEmpty ? "" : ",")\#(rule)}]}"#
            + (status.isEmpty ? "" : #","status":{\#(status)}"#))
    route.moreMetadata = #""generation":\#(generation)"#
    return route
}
package func serviceCIDR(_ name: String, _ cidr: String) -> FakeObject {
    FakeObject("", name, body: #""spec":{"cidrs":["\#(cidr)"]}"#)
}
