/// What both dataplanes do for a pod of the mesh inside its network namespace: connections to port 15008 go to a
/// listener that the proxy is given, and plaintext is taken or refused as the pod's mode says.
package import Addressing
package import DataplaneIR
package import Netns
package import Reconcile

package struct SteeredPod {
    package let uid: String
    /// `namespace/name`, for messages.
    package let name: String
    package let namespace: NetworkNamespace
    package let addresses: [IPAddress: MeshPodProgram]

    package init(
        uid: String, name: String, namespace: NetworkNamespace, addresses: [IPAddress: MeshPodProgram]
    ) {
        self.uid = uid
        self.name = name
        self.namespace = namespace
        self.addresses = addresses
    }

    /// See MeshDoor.
    var isStrict: Bool { MeshDoor(addresses).isStrict }
}

/// Everything here is called by one thread.
package protocol PodSteering: AnyObject {
    /// Begins to steer, or goes on with what a predecessor did for this pod. Returns a listener for each address, for
    /// the proxy: the caller owns them.
    func attach(_ pod: SteeredPod) throws(DataplaneError) -> [IPAddress: Int32]
    /// Changes who may come in plaintext, and nothing else; the addresses are those that are attached.
    func change(_ pod: SteeredPod) throws(DataplaneError)
    /// Takes everything of the pod away but what connections that exist need; its namespace may be gone.
    func release(_ pod: SteeredPod, keepingConnections: Bool) throws(DataplaneError)
    /// What a predecessor left of pods that are not among these.
    func releaseOthers(than pods: [SteeredPod]) throws(DataplaneError)
    /// What is not as it should be; to attach the pod again makes it good.
    func drift(of pod: SteeredPod) -> [Drift]
    /// What somebody else put beside it: it is told of, and left alone.
    func strangers(beside pod: SteeredPod) -> [Drift]
}
