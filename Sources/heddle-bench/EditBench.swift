/// From a file's rename to the first connection that the new endpoint answers, through a running agent: reading,
/// compiling, programming and the connection itself.
import Addressing
import Cluster
import Glibc

func benchEdits(directory: String, service address: SocketAddress, backends: [SocketAddress], count: Int) throws {
    var service = Service(name: ObjectName("bench", "edited"))
    service.clusterIPs = [address.address]
    service.ports = [Service.Port(name: "http", port: address.port)]
    var samples = Samples()
    for round in 0..<count {
        let which = round % backends.count
        var slice = EndpointSlice(name: ObjectName("bench", "edited-1"), serviceName: "edited", addressType: .ipv4)
        slice.ports = [EndpointSlice.Port(name: "http", port: backends[which].port)]
        slice.endpoints = [EndpointSlice.Endpoint(backends[which].address, nodeName: "node-1")]
        let text = manifest(service, slice)
        let start = monotonicNanoseconds()
        try replaceFile(directory, "edited.yaml", text)
        while whoAnswers(at: address) != UInt8(which) {
            guard monotonicNanoseconds() - start < 10_000_000_000 else {
                throw SocketFailure("edit \(round) has no effect after 10 s", ETIMEDOUT)
            }
        }
        // The first rounds find a cold agent.
        if round >= 5 { samples.add(monotonicNanoseconds() - start) }
        usleep(20_000)
    }
    printResult([
        ("edits", samples.count), ("edit_p50_us", samples.percentile(0.5)), ("edit_p99_us", samples.percentile(0.99)),
    ])
}
