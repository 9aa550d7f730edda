/// Starting a program as a user who owns nothing: without capabilities, in a directory of its own.
import CLinux
import Glibc

/// A user without a login: what its processes are, not who.
package struct ProcessUser: Hashable, Sendable, CustomStringConvertible {
    package let name: String
    package let user: UInt32
    package let group: UInt32
    package var description: String { name }

    package init(name: String, user: UInt32, group: UInt32) {
        self.name = name
        self.user = user
        self.group = group
    }

    /// `UID`, `UID:GID`, or a name of /etc/passwd, which is read here: other sources of names may ask the network.
    package init?(_ text: String, passwd: String? = nil) {
        let numbers = text.split(separator: ":", omittingEmptySubsequences: false).map { UInt32($0) }
        if let user = numbers.first ?? nil, numbers.count <= 2, let group = numbers.last ?? nil {
            self.init(name: text, user: user, group: group)
            return
        }
        for line in (passwd ?? readSmallFile("/etc/passwd") ?? "").split(separator: "\n") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count >= 4, fields[0] == text, let user = UInt32(fields[2]), let group = UInt32(fields[3])
            else {
                continue
            }
            self.init(name: text, user: user, group: group)
            return
        }
        return nil
    }
}

package struct ConfinedProgram: Sendable {
    package var path: String
    package var arguments: [String]
    package var user: ProcessUser

    package init(path: String, arguments: [String], user: ProcessUser) {
        self.path = path
        self.arguments = arguments
        self.user = user
    }

    /// Starts it with `directory` as its working directory; returns its pid.
    package func start(in directory: Int32) throws(PosixError) -> Int32 {
        var failed: UnsafePointer<CChar>?
        let pid = path.withCString { path in
            withCStrings([self.path] + arguments) { words in
                var what = clinux_confined(
                    path: path, arguments: words, user: user.user, group: user.group, directory: directory)
                return clinux_spawn_confined(&what, &failed)
            }
        }
        guard pid > 0 else {
            let step = failed.map { String(cString: $0) } ?? "start it"
            throw .errno("start \(path) as user \(user): \(step)")
        }
        return pid
    }
}

/// A directory that belongs to `user` alone, as do the group of files made in it by others, made if it is not there:
/// an open descriptor of it.
package func ownDirectory(_ path: String, of user: ProcessUser, files: [String]) throws(PosixError) -> Int32 {
    if mkdir(path, 0o700) != 0, errno != EEXIST { throw .errno("make the directory \(path)") }
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { throw .errno("open the directory \(path)") }
    var status = stat()
    var isRight = fstat(descriptor, &status) == 0
    if isRight, status.st_uid != user.user || status.st_gid != user.group {
        // Another user's files could not be replaced; and to follow what names he chose is not for root.
        for file in files { unlinkat(descriptor, file, 0) }
        isRight = fchown(descriptor, user.user, user.group) == 0
    }
    if isRight { isRight = fchmod(descriptor, 0o2700) == 0 }
    guard isRight else {
        let error = PosixError.errno("give the directory \(path) to user \(user)")
        close(descriptor)
        throw error
    }
    return descriptor
}

/// Whether `user` may pass all directories on the way to `path`.
package func mayPass(_ user: ProcessUser, to path: String) -> Bool {
    var at = ""
    for part in path.split(separator: "/").dropLast() {
        at += "/" + part
        var status = stat()
        guard stat(at, &status) == 0 else { return false }
        let bit: UInt32 = status.st_uid == user.user ? 0o100 : status.st_gid == user.group ? 0o010 : 0o001
        if user.user != 0, status.st_mode & bit == 0 { return false }
    }
    return true
}
