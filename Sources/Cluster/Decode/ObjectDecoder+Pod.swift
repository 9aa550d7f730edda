/// Pods, as far as endpoints are derived from them.
import Addressing

extension ObjectDecoder {
    mutating func pod(_ reader: inout some Reader) throws(DecodeError) -> Pod {
        var pod = Pod(name: ObjectName("", ""))
        if options.keepsPodIdentities { pod.serviceAccount = "" }
        let metadata = try object(&reader, isNamespaced: true, labels: .all) {
            (decoder, reader, key) throws(DecodeError) in
            switch key {
            case "spec": try decoder.podSpec(&reader, &pod)
            case "status": try decoder.podStatus(&reader, &pod)
            default: try reader.skip()
            }
        }
        pod.name = metadata.name
        pod.uid = metadata.uid
        pod.labels = metadata.labels
        pod.ownerKind = metadata.owner?.kind
        pod.ownerName = metadata.owner?.name
        pod.isTerminating = metadata.hasDeletionTimestamp
        return pod
    }

    /// The template of what makes pods, under a Job's or a CronJob's own spec. nil: the kind makes none.
    package mutating func podTemplate(
        apiVersion: String, kind: String, from reader: inout some Reader
    ) throws(DecodeError) -> PodTemplate? {
        switch (apiVersion, kind) {
        case ("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("apps/v1", "DaemonSet"), ("apps/v1", "ReplicaSet"),
            ("batch/v1", "Job"), ("batch/v1", "CronJob"):
            break
        default: return nil
        }
        var pod = Pod(name: ObjectName("", ""))
        let metadata = try object(&reader, isNamespaced: true, labels: .ours) {
            (decoder, reader, key) throws(DecodeError) in
            guard case "spec" = key else { return try reader.skip() }
            try decoder.podTemplate(under: kind == "CronJob" ? ["jobTemplate", "spec"] : [], &reader, &pod)
        }
        var template = PodTemplate(kind: kind, name: metadata.name)
        (template.labels, template.namedPorts) = (pod.labels, pod.namedPorts)
        return template
    }

    private mutating func podTemplate(
        under path: ArraySlice<StaticString>, _ reader: inout some Reader, _ pod: inout Pod
    ) throws(DecodeError) {
        try reader.fields { (reader, key) throws(DecodeError) in
            if let first = path.first {
                guard first ~= key else { return try reader.skip() }
                return try podTemplate(under: path.dropFirst(), &reader, &pod)
            }
            guard case "template" = key else { return try reader.skip() }
            try reader.fields { (reader, key) throws(DecodeError) in
                switch key {
                case "metadata":
                    try reader.fields { (reader, key) throws(DecodeError) in
                        guard case "labels" = key else { return try reader.skip() }
                        pod.labels = try reader.stringMap()
                    }
                case "spec": try podSpec(&reader, &pod)
                default: try reader.skip()
                }
            }
        }
    }

    private mutating func podSpec(
        _ reader: inout some Reader, _ pod: inout Pod
    ) throws(DecodeError) {
        var sidecarPorts: [Pod.NamedPort] = []
        let keepsMore = options.keepsPodIdentities
        func add(_ container: Container) {
            guard keepsMore else { return }
            pod.probePorts.formUnion(container.probePorts)
            pod.datagramTransports.formUnion(container.datagramTransports)
        }
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "nodeName":
                let name = try reader.string()
                pod.nodeName = name.isEmpty ? nil : interner.intern(name)
            case "hostNetwork": pod.isOnHostNetwork = try reader.bool()
            case "serviceAccountName": pod.serviceAccount = interner.intern(try reader.string())
            case "containers":
                try reader.elements { (reader, _) throws(DecodeError) in
                    let container = try container(&reader)
                    pod.namedPorts += container.ports
                    add(container)
                }
            case "initContainers":
                try reader.elements { (reader, _) throws(DecodeError) in
                    // An init container that is always restarted is a sidecar and can serve.
                    let container = try container(&reader)
                    guard container.isSidecar else { return }
                    sidecarPorts += container.ports
                    add(container)
                }
            default: try reader.skip()
            }
        }
        pod.namedPorts += sidecarPorts
    }

    private struct Container {
        var ports: [Pod.NamedPort] = []
        var isSidecar = false
        var datagramTransports: Set<TransportProtocol> = []
        /// By number, or by the name of one of `ports`.
        var probed: [Service.TargetPort] = []

        var probePorts: [UInt16] {
            probed.compactMap { port in
                switch port {
                case .number(let number): number
                case .name(let name): ports.first { $0.name == name && $0.transport == .tcp }?.port
                }
            }
        }
    }

    private mutating func container(_ reader: inout some Reader) throws(DecodeError) -> Container {
        var container = Container()
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "restartPolicy": container.isSidecar = try reader.string() == "Always"
            case "ports":
                try reader.elements { (reader, _) throws(DecodeError) in
                    let port = try containerPort(&reader)
                    if port.transport != .tcp { container.datagramTransports.insert(port.transport) }
                    // Nothing refers to a port without a name.
                    if !port.name.isEmpty { container.ports.append(port) }
                }
            case _ where !options.keepsPodIdentities: try reader.skip()
            case "livenessProbe", "readinessProbe", "startupProbe": try probe(&reader, &container.probed)
            case "lifecycle":
                try reader.fields { (reader, _) throws(DecodeError) in try probe(&reader, &container.probed) }
            default: try reader.skip()
            }
        }
        return container
    }

    private mutating func containerPort(_ reader: inout some Reader) throws(DecodeError) -> Pod.NamedPort {
        let line = reader.line
        var name = ""
        var transport = TransportProtocol.tcp
        var number: UInt16?
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "name": name = interner.intern(try reader.string())
            case "protocol": transport = try reader.transport()
            case "containerPort": number = try reader.port()
            default: try reader.skip()
            }
        }
        guard let number else {
            throw DecodeError("is missing; give a number from 1 to 65535", path: "containerPort", line: line)
        }
        return Pod.NamedPort(name: name, transport: transport, port: number)
    }

    /// Adds the port that kubelet connects to; what it does inside the container has none.
    private func probe(_ reader: inout some Reader, _ ports: inout [Service.TargetPort]) throws(DecodeError) {
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "httpGet", "tcpSocket", "grpc":
                var port: Service.TargetPort?
                var isElsewhere = false
                try reader.fields { (reader, key) throws(DecodeError) in
                    switch key {
                    case "port": port = try probePort(&reader)
                    case "host": isElsewhere = try !reader.string().isEmpty
                    default: try reader.skip()
                    }
                }
                if let port, !isElsewhere { ports.append(port) }
            default: try reader.skip()
            }
        }
    }

    /// nil: a number that is no port, which kubelet cannot use either.
    private func probePort(_ reader: inout some Reader) throws(DecodeError) -> Service.TargetPort? {
        guard reader.kind == .number else { return .name(try reader.string()) }
        return UInt16(exactly: try reader.int()).flatMap { $0 == 0 ? nil : .number($0) }
    }

    private mutating func podStatus(
        _ reader: inout some Reader, _ pod: inout Pod
    ) throws(DecodeError) {
        var podIP: IPAddress?
        var podIPs: [IPAddress] = []
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "podIP": podIP = try podAddress(&reader, "status.podIP")
            case "podIPs":
                try reader.elements { (reader, index) throws(DecodeError) in
                    try reader.fields { (reader, key) throws(DecodeError) in
                        guard case "ip" = key else { return try reader.skip() }
                        if let ip = try podAddress(&reader, "status.podIPs[\(index)].ip") { podIPs.append(ip) }
                    }
                }
            case "phase":
                let phase = try reader.string()
                pod.isFinished = phase == "Succeeded" || phase == "Failed"
            case "conditions":
                // Without a list of conditions the file was written by hand, and the pod counts as ready.
                pod.isReady = false
                try reader.elements { (reader, _) throws(DecodeError) in
                    if try isReadyCondition(&reader) { pod.isReady = true }
                }
            default: try reader.skip()
            }
        }
        pod.addresses = podIPs.isEmpty ? podIP.map { [$0] } ?? [] : podIPs
    }

    private mutating func podAddress(
        _ reader: inout some Reader, _ path: String
    ) throws(DecodeError) -> IPAddress? {
        let line = reader.line
        let text = try reader.string()
        if text.isEmpty { return nil }
        guard let address = IPAddress(text.trimmed), address.isOfOneMachine else {
            note("\(quoted(text)) is not the IP address of a pod and is ignored", path: path, line: line)
            return nil
        }
        return address
    }

    private func isReadyCondition(_ reader: inout some Reader)
        throws(DecodeError) -> Bool
    {
        var type = ""
        var status = ""
        try reader.fields { (reader, key) throws(DecodeError) in
            switch key {
            case "type": type = try reader.string()
            case "status": status = try reader.string()
            default: try reader.skip()
            }
        }
        return type == "Ready" && status == "True"
    }
}
