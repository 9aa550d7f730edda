/// The seam between those who look at live traffic and the dataplanes that can see it.
package import DataplaneIR

/// Looks at live traffic for as long as it exists, at no cost before and after. Belongs to one thread.
package protocol FlowTracer: AnyObject {
    /// Most events in a second; 0: traffic is only counted.
    func limit(to rate: UInt32)
    /// Puts right what others changed; call it about once a second.
    func maintain() throws(DataplaneError)
    /// Hands over the events there are; does not wait.
    func drain(_ take: (FlowEvent) -> Void) throws(DataplaneError)
    /// Events that were left out since the beginning.
    var dropped: UInt64 { get }
    /// Sums since the beginning; those of backends that found no room have neither service nor backend.
    func traffic() throws(DataplaneError) -> [BackendTraffic]
}
