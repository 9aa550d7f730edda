/// The comparison with the kernel in pieces. The elements of a set are listed datagram by datagram and only added up: a
/// digest that is right proves them all, and one that is wrong makes somebody look closer. A commit between two pieces
/// spoils the list of the set that is being read, and no more than that: it is read again, in larger pieces each time,
/// so that it ends however often plans come.
import Addressing
package import DataplaneIR
import Glibc
import Netlink
import Nftables
package import Reconcile

/// How far a comparison has come.
struct TableComparison {
    enum Step {
        case structure(TableMirror)
        case elements(TableMirror, TableSet)
    }
    fileprivate var steps: ArraySlice<Step>
    fileprivate var listing: ElementListing?
    fileprivate var listed = SetDigest()
    /// Our commits when the listing began.
    fileprivate var commits: UInt64 = 0
    /// How often this set was begun.
    fileprivate var attempts = 0

    init(_ mirrors: [TableMirror]) {
        steps =
            mirrors.flatMap { mirror in [.structure(mirror)] + TableSet.allCases.map { .elements(mirror, $0) } }[...]
    }
}

extension NftablesDataplane {
    /// Whoever writes to our table without a pause must not keep a comparison up for ever.
    private static let attempts = 50

    package func compare(entries: Int, restarts: Bool) throws(DataplaneError) -> ComparedPiece {
        var piece = ComparedPiece()
        guard node != nil else {
            piece.isLast = true
            return piece
        }
        if restarts { comparison = nil }
        // After a failure from the beginning.
        var work = comparison.take() ?? TableComparison(mirrors)
        do throws(NetlinkError) {
            while let step = work.steps.first, piece.entries < entries {
                switch step {
                case .structure(let mirror):
                    piece.drift += try structureDrift(mirror, &piece.entries)
                    work.steps.removeFirst()
                case .elements(let mirror, let set): try compare(set, mirror, entries, &work, &piece)
                }
            }
        } catch {
            throw DataplaneError(error)
        }
        piece.isLast = work.steps.isEmpty
        if !piece.isLast { comparison = work }
        return piece
    }

    private func compare(
        _ set: TableSet, _ mirror: TableMirror, _ entries: Int, _ work: inout TableComparison,
        _ piece: inout ComparedPiece
    ) throws(NetlinkError) {
        if work.listing == nil || work.commits != commits {
            guard work.attempts < Self.attempts else {
                throw NetlinkError(operation: "list elements of set \(mirror.table.label) \(set.name)", code: EINTR)
            }
            work.listing = try ElementListing(of: set.name, in: mirror.table)
            (work.listed, work.commits) = (SetDigest(), commits)
            work.attempts += 1
        }
        let room = entries << min(work.attempts - 1, 20)
        var listed = work.listed
        var isDone = false
        var isSpoilt = false
        repeat {
            let before = listed.count
            do throws(NetlinkError) {
                try work.listing?.readPart { element in
                    if let element = TableElement(set, mirror.family, element) { listed.insert(element) }
                }
            } catch {
                // The set is gone: the structure says so.
                guard error.code == ENOENT else { throw error }
                isDone = true
            }
            piece.entries += listed.count - before
            isDone = isDone || work.listing?.isFinished ?? true
            isSpoilt = work.listing.map { !$0.isConsistent } ?? false
        } while !isDone && !isSpoilt && piece.entries < room
        work.listed = listed
        guard isDone || isSpoilt else { return }
        work.listing = nil
        if isSpoilt {
            piece.isSpoilt = true
            return
        }
        if listed != mirror.digest[set] { piece.drift += try elementDrift(of: [set], mirror) }
        work.attempts = 0
        work.steps.removeFirst()
    }
}
