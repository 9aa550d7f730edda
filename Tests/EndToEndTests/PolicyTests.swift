/// Access policies on two nodes with the real agents and proxies: whom they let in by a tunnel, and in the clear.
import Addressing
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct PolicyTests {
    @Test(arguments: DataplaneKind.allCases) func onlyWhoIsAllowedIsLetIn(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let mesh = try LabMesh(lab, dataplane)
            let far = { (family: AddressFamily) in SocketAddress(mesh.far.address(family), TestService.targetPort) }
            let kubelet = try LabKubelet(on: mesh.nodes[1], probing: far(.ipv4))
            let enrolled = [mesh.client, mesh.near, mesh.far]
            try mesh.enrol(enrolled)
            try mesh.waitUntilEnrolled(enrolled)
            try eventually("a tunnel") { try mesh.client.flow(.tcp, to: far(.ipv4)).answered == 1 }
            let (held, plain) = (
                try mesh.client.open(.tcp, to: far(.ipv4)), try mesh.near.open(.tcp, to: far(.ipv4))
            )
            #expect(held.opening.names == ["far-answers"] && plain.opening.names == ["far-answers"])

            try mesh.manifests.write("policy", allow("near-answers"))
            for family in AddressFamily.allCases {
                let target = far(family)
                try eventually("\(target) lets the client in no more") {
                    try mesh.client.flow(.tcp, to: target).answered == 0
                }
                let denied = try mesh.client.flow(.tcp, to: target, count: 5)
                #expect(denied.answered == 0, "\(denied)")
                let allowed = try mesh.near.flow(.tcp, to: target, count: 5)
                #expect(allowed.hits == ["far-answers": 5], "\(allowed)")
                try eventually("\(target) refuses who has shown nothing") {
                    Set(try mesh.outsider.flow(.tcp, to: target).errors.keys) == [ECONNREFUSED]
                }
                // The pod that the policy is not about takes the connection.
                let web = try mesh.client.flow(.tcp, to: mesh.service.address(family), count: 20)
                #expect(web.hits == ["near-answers": 20], "\(web)")
            }
            #expect(try held.ask().answered == 0, "a connection that is denied now goes on")
            #expect(try plain.ask().names == ["far-answers"], "a connection that is allowed was cut")
            try eventually("kubelet's probe passes") { try kubelet.probe() == "passes" }

            // It outlives those who brought it about.
            for agent in mesh.agents {
                try agent.killAbruptly()
                #expect(try mesh.client.flow(.tcp, to: far(.ipv4)).answered == 0)
                try agent.start()
                try agent.waitUntilInSync()
                #expect(try mesh.client.flow(.tcp, to: far(.ipv4), count: 3).answered == 0)
                #expect(Set(try mesh.outsider.flow(.tcp, to: far(.ipv4)).errors.keys) == [ECONNREFUSED])
            }
            try mesh.manifests.write("policy", allow("client-pod"))
            try eventually("the other one is allowed") {
                try mesh.client.flow(.tcp, to: far(.ipv4)).answered == 1
                    && mesh.near.flow(.tcp, to: far(.ipv4)).answered == 0
            }
            mesh.manifests.remove("policy")
            try eventually("everybody is let in again") {
                try [mesh.client, mesh.near, mesh.outsider].allSatisfy {
                    try $0.flow(.tcp, to: far(.ipv4)).answered == 1
                }
            }
        }
    }

    private func allow(_ account: String) -> String {
        """
        apiVersion: security.istio.io/v1
        kind: AuthorizationPolicy
        metadata: {name: allow, namespace: default}
        spec:
          selector: {matchLabels: {app: far-answers}}
          rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/\(account)]}}]}]
        """
    }
}
