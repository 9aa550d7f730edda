/// inotify on one directory and on what may replace it: the nearest ancestor that exists, where the directory itself
/// (or the symbolic link to it) is created, renamed or removed.
import Glibc

struct DirectoryWatch: ~Copyable {
    enum Event {
        /// A file of the directory was written and closed.
        case written(String)
        /// A file is being written; `written` follows when its writer closes it.
        case writing(String)
        /// A name appeared: of a file somebody will write now, a link, a directory, or a second name of a file.
        case created(String)
        /// Its mode, times or number of names changed.
        case attributesChanged(String)
        case removed(String)
        /// The two halves of a rename carry the same number; the second is missing if it led out of the directory.
        case renamedFrom(String, UInt32)
        case renamedTo(String, UInt32)
        /// The directory was replaced, removed or created, or events were lost.
        case directoryChanged
        /// A name that is not UTF-8 came or went.
        case unreadableName
    }
    enum Attachment {
        case watched
        /// It is there, but the kernel does not watch any more for us. The text says why and what to do.
        case unwatched(String)
        /// errno
        case unreadable(Int32)
    }

    /// Negative: the kernel has granted none yet.
    private(set) var descriptor: Int32 = -1
    private let path: String
    private var directory: Int32 = -1
    private var ancestor: Int32 = -1
    /// The name within the ancestor whose appearance matters.
    private var awaited = ""

    init(path: String) { self.path = path }
    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Whether anything would be told if the directory, or what it is in, changed.
    var hears: Bool { directory >= 0 || ancestor >= 0 }

    /// Watches the directory as it is now; if there is none, its creation is awaited.
    mutating func attach() -> Attachment {
        if descriptor < 0 { descriptor = inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK)) }
        guard descriptor >= 0 else {
            return .unwatched("the kernel has no more inotify instances: raise fs.inotify.max_user_instances")
        }
        let old = directory
        directory = inotify_add_watch(
            descriptor, path,
            UInt32(
                IN_CLOSE_WRITE | IN_MODIFY | IN_CREATE | IN_ATTRIB | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE
                    | IN_DELETE_SELF | IN_MOVE_SELF) | UInt32(IN_ONLYDIR))
        let error = directory < 0 ? errno : 0
        if old >= 0, old != directory { inotify_rm_watch(descriptor, old) }
        watchAncestor()
        switch error {
        case 0: return .watched
        case ENOSPC, ENOMEM, EMFILE:
            return .unwatched("the kernel has no more inotify watches: raise fs.inotify.max_user_watches")
        default: return .unreadable(error)
        }
    }
    /// Whether another directory stands at the path than the one that is watched.
    mutating func wasReplaced() -> Bool {
        let old = directory
        if case .watched = attach() { return directory != old }
        return old >= 0
    }

    private mutating func watchAncestor() {
        let old = ancestor
        var parts = path.split(separator: "/", omittingEmptySubsequences: true)
        let root = path.first == "/" ? "/" : "./"
        repeat {
            awaited = parts.popLast().map(String.init) ?? ""
            let parent = root + parts.joined(separator: "/")
            ancestor = inotify_add_watch(
                descriptor, parent,
                UInt32(IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE) | UInt32(IN_ONLYDIR))
        } while ancestor < 0 && !parts.isEmpty
        if old >= 0, old != ancestor, old != directory { inotify_rm_watch(descriptor, old) }
    }

    /// All events that are queued, in order; does not wait.
    mutating func drain() -> [Event] {
        var events: [Event] = []
        withUnsafeTemporaryAllocation(byteCount: 65536, alignment: MemoryLayout<inotify_event>.alignment) { buffer in
            while true {
                let count = read(descriptor, buffer.baseAddress, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return }
                var offset = 0
                while offset + MemoryLayout<inotify_event>.size <= count {
                    let event = buffer.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
                    let start = offset + MemoryLayout<inotify_event>.size
                    let end = min(start + Int(event.len), count)
                    if let name = String(validating: buffer[start..<end].prefix { $0 != 0 }, as: UTF8.self) {
                        if let event = classify(event, name) { events.append(event) }
                    } else if event.mask & UInt32(IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE) != 0 {
                        events.append(.unreadableName)
                    }
                    offset = end
                }
            }
        }
        return events
    }

    private func classify(_ event: inotify_event, _ name: String) -> Event? {
        let has = { (flag: Int32) in event.mask & UInt32(bitPattern: flag) != 0 }
        if has(Int32(IN_Q_OVERFLOW)) { return .directoryChanged }
        if event.wd == ancestor, event.wd != directory {
            return name == awaited || has(Int32(IN_IGNORED)) ? .directoryChanged : nil
        }
        guard event.wd == directory else { return nil }
        if name.isEmpty {
            let isGone = has(Int32(IN_DELETE_SELF)) || has(Int32(IN_MOVE_SELF)) || has(Int32(IN_IGNORED))
            return isGone || has(Int32(IN_UNMOUNT)) ? .directoryChanged : nil
        }
        if has(Int32(IN_CLOSE_WRITE)) { return .written(name) }
        if has(Int32(IN_MOVED_TO)) { return .renamedTo(name, event.cookie) }
        if has(Int32(IN_MODIFY)) { return .writing(name) }
        if has(Int32(IN_CREATE)) { return .created(name) }
        if has(Int32(IN_ATTRIB)) { return .attributesChanged(name) }
        if has(Int32(IN_MOVED_FROM)) { return .renamedFrom(name, event.cookie) }
        return has(Int32(IN_DELETE)) ? .removed(name) : nil
    }
}
