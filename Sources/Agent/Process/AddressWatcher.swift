/// Follows the addresses of the node's interfaces from a thread that blocks in netlink.
import Addressing
import Glibc
import Logging
import NodeControl
import Netlink
import Posix

actor AddressWatcher {
    private let thread: KernelThread
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    init() throws(PosixError) { thread = try KernelThread(name: "heddle-address") }

    /// Never returns: the thread ends with the process.
    func run(log: Logger, _ deliver: @Sendable (Set<LocalAddress>) -> Void) {
        while true {
            do throws(NetlinkError) {
                // Subscribed before the first list: no change can fall between the two.
                let client = try AddressClient()
                repeat { deliver(Set(try client.addresses().map(LocalAddress.init))) } while try wait(client)
            } catch {
                log.error("following interface addresses failed, trying again: \(error)")
                sleep(1)
            }
        }
    }

    private func wait(_ client: AddressClient) throws(NetlinkError) -> Bool {
        while !(try client.waitForChange(milliseconds: -1)) {}
        return true
    }
}

extension LocalAddress {
    fileprivate init(_ found: InterfaceAddress) {
        self.init(found.address)
        network = IPPrefix(found.address, length: found.prefixLength)
        interface = interfaceName(found.interfaceIndex)
    }
}

/// Empty for an interface that has just gone: another change follows.
private func interfaceName(_ index: UInt32) -> String {
    var name = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
    guard if_indextoname(index, &name) != nil else { return "" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
