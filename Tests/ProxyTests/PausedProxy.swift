/// A moment in which much happens around the proxy.
import NIOCore
import Posix

@testable import Proxy

extension ProxyRig {
    /// It does nothing meanwhile, and then finds all of it at once.
    func paused(_ body: () throws -> Void) rethrows {
        let goesOn = Semaphore()
        engine.shards[0].loop.execute { goesOn.wait() }
        defer { goesOn.signal() }
        try body()
    }
}
