/// What every program of ours that goes on running wants of its process, before anything else.
import CLinux
import Glibc

/// A peer that has gone is an error of a write and no end; few arenas, so that what threads freed goes back; as many
/// descriptors as are allowed.
package func prepareProcess() {
    signal(SIGPIPE, SIG_IGN)
    clinux_limit_arenas(2)
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}

/// For a process that holds private keys: a crash leaves them in no file.
package func hideMemory() {
    clinux_hide_memory()
    var none = rlimit()
    setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none)
}
