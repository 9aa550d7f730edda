/// A pod's own way to the API server: two environment variables and the ServiceAccount's files.

extension ClusterAccess {
    package static let serviceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount"

    /// `environment` needs KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT. Where this agent replaces kube-proxy
    /// they must name the API server itself, not its cluster IP: nobody else makes that address work.
    package static func inCluster(
        environment: [String: String], directory: String = serviceAccountDirectory
    ) throws(AccessError) -> ClusterAccess {
        guard let host = environment["KUBERNETES_SERVICE_HOST"], !host.isEmpty else {
            throw AccessError(
                "this is no pod: KUBERNETES_SERVICE_HOST is not set; pass --kubeconfig PATH or --source manifests:DIR")
        }
        let portText = environment["KUBERNETES_SERVICE_PORT"] ?? "443"
        guard let port = UInt16(portText), port > 0 else {
            throw AccessError("KUBERNETES_SERVICE_PORT is \(portText.debugDescription), which is no port; use 1-65535")
        }
        let bare = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        var access = ClusterAccess(server: ServerAddress(scheme: "https", host: bare, port: Int(port)))
        access.certificateAuthority = .file(directory + "/ca.crt")
        access.login = .tokenFile(directory + "/token")
        return access
    }
}
