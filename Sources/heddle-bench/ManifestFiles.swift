/// The generated cluster as files, one a service, as an agent under test reads them.
import Addressing
import Cluster
import Glibc
import Posix

func manifest(_ service: Service, _ slice: EndpointSlice) -> String {
    let addresses = service.clusterIPs.map { "\"\($0)\"" }.joined(separator: ", ")
    var text = """
        apiVersion: v1
        kind: Service
        metadata: {name: \(service.name.name), namespace: \(service.name.namespace)}
        spec:
          clusterIPs: [\(addresses)]
          ports: [{name: http, port: \(service.ports[0].port), protocol: TCP, targetPort: 8080}]
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata:
          name: \(slice.name.name)
          namespace: \(slice.name.namespace)
          labels: {kubernetes.io/service-name: \(service.name.name)}
        addressType: IPv4
        ports: [{name: http, port: \(slice.ports[0].port), protocol: TCP}]
        endpoints:

        """
    for endpoint in slice.endpoints {
        text +=
            "- {addresses: [\"\(endpoint.address)\"], nodeName: \(endpoint.nodeName ?? ""), "
            + "conditions: {ready: true}}\n"
    }
    return text
}

/// Writes beside the directory and renames into it, as tools that want no half-read file do.
func replaceFile(_ directory: String, _ name: String, _ text: String) throws {
    let temporary = directory + "/." + name + ".new"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    guard descriptor >= 0 else { throw SocketFailure("create \(temporary)") }
    let outcome = writeAll(Array(text.utf8), to: descriptor)
    close(descriptor)
    guard outcome.code == 0, rename(temporary, directory + "/" + name) == 0 else {
        throw SocketFailure("write \(name)")
    }
}

func writeManifests(_ cluster: GeneratedCluster, to directory: String) throws {
    for number in 0..<cluster.services {
        try replaceFile(directory, "svc-\(number).yaml", manifest(cluster.service(number), cluster.slice(number)))
    }
}
