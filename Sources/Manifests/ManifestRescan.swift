/// The safety net under inotify, which tells nothing about files behind symbolic links and on some network file
/// systems. Thin, so that an idle agent costs nearly nothing whatever the number of files: nothing is read that did not
/// change, the directory is listed only when it changed itself, and of many files some are looked at each time.
struct ManifestRescan {
    struct Finding: Equatable {
        /// Files that are other ones than were read, new ones, and those that are gone.
        var changed: [String] = []
        /// As listed; nil: not listed this time.
        var unreadableNames: [String]?
        /// Files that were looked at.
        var looks = 0
    }
    /// Files looked at each time, beside symbolic links.
    private static let piece = 512
    /// All of them are looked at within so many times.
    private static let longestRound = 20

    /// Of the round under way.
    private var rest: ArraySlice<String> = []
    /// The directory when it was listed; nil: it must be.
    private var listed: ManifestDirectory.Signature?

    /// nil: the directory cannot be looked at. `read` has those of the known files that lead somewhere; `everything` is
    /// for directories that the kernel does not watch for us.
    mutating func look(
        at directory: ManifestDirectory, known: some Collection<String>,
        links: Set<String>, read: [String: ManifestDirectory.Signature], everything: Bool, now: Int
    ) -> Finding? {
        var finding = Finding()
        var names: [String] = []
        guard let status = directory.status(".") else { return nil }
        if status.signature != listed {
            guard let found = directory.list() else { return nil }
            finding.unreadableNames = found.unreadable
            // Times have the grain of a clock tick or worse: one that changed just now may do so again unseen.
            listed = abs(now - status.signature.changedSeconds) > 2 ? status.signature : nil
            names = found.names.filter { read[$0] == nil }
        }
        let piece = takePiece(of: known, everything: everything)
        names += piece
        // Nothing tells of what they lead to: unless they are many, each is looked at each time.
        if links.count <= Self.piece { names += links.subtracting(piece) }
        let couldLook = directory.forEachStatus(names) { name, status in
            finding.looks += 1
            if status?.signature == read[name] { return }
            // Written in this very second it may be incomplete: it is left to its events or to the next time.
            if let status, abs(now - status.writtenSeconds) <= 1 {
                listed = nil
            } else {
                finding.changed.append(name)
            }
        }
        return couldLook ? finding : nil
    }

    private mutating func takePiece(of known: some Collection<String>, everything: Bool) -> ArraySlice<String> {
        if rest.isEmpty || everything { rest = Array(known)[...] }
        let size = everything ? rest.count : max(Self.piece, known.count / Self.longestRound + 1)
        defer { rest = rest.dropFirst(size) }
        return rest.prefix(size)
    }
}
