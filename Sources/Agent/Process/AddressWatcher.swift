/// Follows the addresses of the node's interfaces from a thread that blocks in netlink.
import Addressing
import Glibc
import Logging
import Netlink
import Netns

actor AddressWatcher {
    private let thread: KernelThread
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    init() throws(NetnsError) { thread = try KernelThread(name: "heddle-address") }

    /// Never returns: the thread ends with the process.
    func run(log: Logger, _ deliver: @Sendable (Set<IPAddress>) -> Void) {
        while true {
            do throws(NetlinkError) {
                // Subscribed before the first list: no change can fall between the two.
                let client = try AddressClient()
                repeat { deliver(Set(try client.addresses().map(\.address))) } while try wait(client)
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
