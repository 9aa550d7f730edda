/// The files of pins that were found to hold what they should. As long as they are the same files they still do:
/// looking at a file costs a fraction of opening the object behind it.
import Posix

struct KnownPins {
    private var files: [String: FileIdentity] = [:]

    /// `holdsOurs` opens the pin; it is asked only about files that are not known.
    mutating func isRight(_ path: String, _ holdsOurs: () -> Bool) -> Bool {
        // Before it is opened: what takes its place meanwhile is another file.
        guard let file = FileIdentity(path: path) else {
            files[path] = nil
            return false
        }
        if files[path] == file { return true }
        guard holdsOurs() else {
            files[path] = nil
            return false
        }
        files[path] = file
        return true
    }
}
