/// Decodes the kinds of Kubernetes objects Heddle follows, in any format a `ValueReader` reads. It keeps only what a
/// node needs, applies the API's defaults, and refuses what the API server would refuse, so that nothing behind it
/// meets a port 0 or an address that is none. Each kind has its own file.
package import Addressing

package struct ObjectDecoder {
    /// What differs between an API server and files written by hand.
    package struct Options: Sendable {
        /// For namespaced objects that name none; nil: their namespace is required.
        package var defaultNamespace: String?
        /// For objects that have no name yet; nil: one is required.
        package var defaultName: String?
        /// Whether a slice port without the key `name` is the unnamed port. From an API server it is not, it means "not
        /// given" and joins no service port (spec row 20); people who write files mean the unnamed port.
        package var absentPortNameIsEmpty = false
        /// Whether a slice of no service is worth a note. In a cluster anything may keep such slices, which are none of
        /// our business; people who write files have forgotten the label.
        package var slicesNeedService = false
        /// Whether routes come with their `record`: for the one who writes their status, and from JSON only.
        package var keepsRouteRecords = false
        /// Whether pods come with what a mesh must know of them: their `uid`, what kubelet and datagrams reach of them,
        /// and no ServiceAccount but one that is named. A pod that a node makes by itself names none, and must stand
        /// for none.
        package var keepsPodIdentities = false

        /// What a Service has that was given no address and is not headless: nothing, or, for objects that no API
        /// server has seen yet, what stands for the address it will get.
        package var unallocatedClusterIPs: [IPAddress] = []

        package init() {}
    }

    package let options: Options
    var interner = Interner()
    /// What was left out of the object decoded last.
    package private(set) var notes: [DecodeNote] = []
    private var notesLeftOut = 0

    package init(options: Options = Options()) { self.options = options }

    /// Reads an object of a kind that is known already; consumes it even where parts are not wanted.
    package mutating func decode(
        _ kind: ObjectKind, from reader: inout some Reader
    ) throws(DecodeError) -> ClusterObject {
        notes.removeAll()
        notesLeftOut = 0
        let line = reader.line
        let object: ClusterObject =
            switch kind {
            case .service: .service(try service(&reader))
            case .endpointSlice: .endpointSlice(try endpointSlice(&reader))
            case .node: .node(try node(&reader))
            case .namespace: .namespace(try namespace(&reader))
            case .pod: .pod(try pod(&reader))
            case .serviceCIDR: .serviceCIDR(try serviceCIDR(&reader))
            case .httpRoute: .route(try route(.http, &reader))
            case .grpcRoute: .route(try route(.grpc, &reader))
            case .peerAuthentication: .peerAuthentication(try peerAuthentication(&reader))
            case .authorizationPolicy: .authorizationPolicy(try authorizationPolicy(&reader))
            }
        if notesLeftOut > 0 {
            notes.append(DecodeNote(path: "", message: "\(notesLeftOut) more like these", line: line))
        }
        return object
    }

    /// Remembers that a part was left out. An object with a thousand bad endpoints needs no thousand lines.
    mutating func note(_ message: String, path: String, line: Int) {
        if notes.count < 10 {
            notes.append(DecodeNote(path: path, message: message, line: line))
        } else {
            notesLeftOut += 1
        }
    }
}

extension ObjectKind {
    /// The kind by its API names; nil if we do not follow it. The group matters: Knative has a `Service` too.
    package init?(apiVersion: String, kind: String) {
        switch (apiVersion, kind) {
        case ("v1", "Service"): self = .service
        case ("discovery.k8s.io/v1", "EndpointSlice"): self = .endpointSlice
        case ("v1", "Node"): self = .node
        case ("v1", "Namespace"): self = .namespace
        case ("v1", "Pod"): self = .pod
        case ("networking.k8s.io/v1", "ServiceCIDR"), ("networking.k8s.io/v1beta1", "ServiceCIDR"): self = .serviceCIDR
        case ("gateway.networking.k8s.io/v1", "HTTPRoute"): self = .httpRoute
        case ("gateway.networking.k8s.io/v1", "GRPCRoute"): self = .grpcRoute
        case ("security.istio.io/v1", "PeerAuthentication"), ("security.istio.io/v1beta1", "PeerAuthentication"):
            self = .peerAuthentication
        case ("security.istio.io/v1", "AuthorizationPolicy"), ("security.istio.io/v1beta1", "AuthorizationPolicy"):
            self = .authorizationPolicy
        default: return nil
        }
    }
}
