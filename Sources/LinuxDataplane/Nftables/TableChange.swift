/// What one plan changes in one table: a list of operations, readable as text, and its encoding.
import Nftables

enum TableOperation: Equatable, CustomStringConvertible {
    case deleteTable
    case addTable(comment: String)
    case addSet(SetDefinition)
    case deleteSet(String)
    case flushSet(String)
    case addChain(String, BaseChain?)
    case addRule(chain: String, Rule)
    case flushChain(String)
    case deleteChain(String)

    var description: String {
        switch self {
        case .deleteTable: "delete table"
        case .addTable(let comment): "add table \"\(comment)\""
        case .addSet(let set): "add set \(set.name)"
        case .deleteSet(let name): "delete set \(name)"
        case .flushSet(let name): "flush set \(name)"
        case .addChain(let name, _): "add chain \(name)"
        case .addRule(let chain, let rule): "add rule \(chain)" + (rule.comment.map { " \"\($0)\"" } ?? "")
        case .flushChain(let name): "flush chain \(name)"
        case .deleteChain(let name): "delete chain \(name)"
        }
    }
}

struct TableChange {
    let table: Table
    /// Things nothing refers to yet. A chain must be in force before a verdict leads to it: a packet that began its
    /// walk in the old generation would find it empty. So these go in a transaction of their own, except for a new
    /// table.
    var preparation: [TableOperation] = []
    /// Removals and rewritten chains; before the elements.
    var operations: [TableOperation] = []
    /// By set, so that the elements of a set share messages.
    private(set) var deletions = Array(repeating: [ElementKey](), count: TableSet.allCases.count)
    private(set) var additions = Array(repeating: [TableElement](), count: TableSet.allCases.count)
    /// What additions and deletions make of the table's digest.
    private(set) var digest = TableDigest()
    /// After the elements.
    var afterwards: [TableOperation] = []
    var isNewTable = false

    init(_ table: Table) { self.table = table }

    var isEmpty: Bool { preparation.isEmpty && isSwitchEmpty }
    var isSwitchEmpty: Bool {
        operations.isEmpty && afterwards.isEmpty && deletions.allSatisfy(\.isEmpty) && additions.allSatisfy(\.isEmpty)
    }

    /// `element`: as the kernel holds it.
    mutating func delete(_ element: TableElement) {
        deletions[Int(element.key.set.rawValue)].append(element.key)
        digest.remove(element)
    }
    mutating func add(_ element: TableElement) {
        additions[Int(element.key.set.rawValue)].append(element)
        digest.insert(element)
    }

    /// For tests and logs.
    var lines: [String] {
        preparation.map { "\($0)" } + (preparation.isEmpty ? [] : ["--"]) + operations.map { "\($0)" }
            + TableSet.allCases.flatMap { set in deletions[Int(set.rawValue)].map { "delete \(set.name) \($0)" } }
            + TableSet.allCases.flatMap { set in additions[Int(set.rawValue)].map { "add \(set.name) \($0)" } }
            + afterwards.map { "\($0)" }
    }

    // MARK: Encoding

    func encodePreparation(into batch: inout Batch) {
        for operation in preparation { encode(operation, into: &batch) }
    }
    func encodeSwitch(into batch: inout Batch) {
        for operation in operations { encode(operation, into: &batch) }
        for set in TableSet.allCases {
            for key in deletions[Int(set.rawValue)] {
                batch.deleteElement(from: set.name, in: table, label: "\(key)") { $0.put(TableElement(key: key)) }
            }
        }
        for set in TableSet.allCases {
            for element in additions[Int(set.rawValue)] {
                batch.addElement(to: set.name, in: table, label: "\(element.key)") { $0.putWhole(element) }
            }
        }
        for operation in afterwards { encode(operation, into: &batch) }
    }

    private func encode(_ operation: TableOperation, into batch: inout Batch) {
        switch operation {
        case .deleteTable: batch.delete(table)
        case .addTable(let comment): batch.add(table, userdata: Userdata(comment: comment))
        case .addSet(let set): batch.addSet(set, in: table)
        case .deleteSet(let name): batch.deleteSet(name, in: table)
        case .flushSet(let name): batch.flushSet(name, in: table)
        case .addChain(let name, let base): batch.addChain(name, in: table, base: base)
        case .addRule(let chain, let rule): batch.addRule(rule, to: chain, in: table)
        case .flushChain(let name): batch.flushChain(name, in: table)
        case .deleteChain(let name): batch.deleteChain(name, in: table)
        }
    }
}
