/// What the compiler and the kernel leave out becomes an Event on the object, where the source can tell its owner.
import Cluster
import Compile
import DataplaneIR
import Reconcile

extension NodeController {
    /// After compiling: `names` are the services that may have changed.
    mutating func tellFindings(of names: Set<ObjectName>) {
        for name in names { tell(compiler.findings[name] ?? []) }
    }

    mutating func tell(_ findings: [Finding]) {
        for finding in findings {
            tell(
                ObjectEvent(
                    finding.object, reason: ObjectEvent.reason(fromWord: finding.reason),
                    message: "\(finding.field): \(finding.message)"))
        }
    }

    mutating func tellRefused(_ receipt: Receipt) {
        for (id, reason) in receipt.refused {
            tell(
                ObjectEvent(
                    ObjectID(.service, ObjectName(id.namespace, id.service)), reason: "NotProgrammed",
                    message: "\(id.displayName) is not served on node \(settings.nodeName): \(reason)",
                    isOfThisNode: true))
        }
    }

    private mutating func tell(_ event: ObjectEvent) {
        act(.tell(event))
    }
}
