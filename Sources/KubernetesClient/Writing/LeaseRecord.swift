/// What a `coordination.k8s.io/v1` Lease says about who leads.
import Cluster
import PullJSON

package struct LeaseRecord: Equatable, Sendable {
    /// Empty: it was handed back.
    package var holder = ""
    package var seconds: Int64 = 0
    package var transitions: Int64 = 0
    package var acquireTime = ""
    package var renewTime = ""
    package var resourceVersion = ""
    /// Another one: it was deleted and made anew, which a PUT does, too.
    package var uid = ""

    package init() {}

    /// Reads a Lease.
    init(_ body: [UInt8]) throws(JSONError) {
        var reader = JSONReader(body.span)
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch reader.text(of: key) {
            case "metadata" where reader.token == .object: try readMetadata(&reader)
            case "spec" where reader.token == .object: try readSpec(&reader)
            default: try reader.skipValue()
            }
        }
    }
    private mutating func readMetadata(_ reader: inout JSONReader) throws(JSONError) {
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch reader.text(of: key) {
            case "resourceVersion" where reader.token == .string: resourceVersion = try reader.readText()
            case "uid" where reader.token == .string: uid = try reader.readText()
            default: try reader.skipValue()
            }
        }
    }
    private mutating func readSpec(_ reader: inout JSONReader) throws(JSONError) {
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch reader.text(of: key) {
            case "holderIdentity" where reader.token == .string: holder = try reader.readText()
            case "leaseDurationSeconds" where reader.token == .number: seconds = try reader.readInteger() ?? 0
            case "leaseTransitions" where reader.token == .number: transitions = try reader.readInteger() ?? 0
            case "acquireTime" where reader.token == .string: acquireTime = try reader.readText()
            case "renewTime" where reader.token == .string: renewTime = try reader.readText()
            default: try reader.skipValue()
            }
        }
    }

    /// `spec`, as a member of a Lease, renewed at this moment of the wall clock. Times are for people: nobody's clock
    /// is compared with another's.
    func fields(wallTime: Int) -> String {
        let now = Timestamp.text(wallTime).dropLast() + ".000000Z"
        return #""spec":{"holderIdentity":\#(quoted(holder)),"leaseDurationSeconds":\#(max(seconds, 1)),"#
            + #""acquireTime":"\#(acquireTime.isEmpty ? String(now) : acquireTime)","renewTime":"\#(now)","#
            + #""leaseTransitions":\#(transitions)}"#
    }
}
