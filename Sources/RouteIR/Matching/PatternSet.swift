/// All regular expressions of a table as one machine: a text is read once, however many there are. Sets of states are
/// named as they turn up (a lazy DFA), so that what was met before costs one look a byte; what was not is worked out
/// from the patterns, and paid for from the request's budget.

/// What deciding about one request may cost, in steps of some nanoseconds. Patterns, headers and queries, which anyone
/// may write and send, must not hold up the others of an event loop: all of it is below a millisecond.
package struct MatchBudget: Sendable {
    package static let stepsPerRequest = 50_000
    package private(set) var stepsLeft: Int
    package var isExhausted: Bool { stepsLeft < 0 }

    package init(steps: Int = stepsPerRequest) { stepsLeft = steps }
    /// For `explain` and tests.
    static let unlimited = MatchBudget(steps: .max)

    /// False: there is nothing left, and what comes out means nothing.
    mutating func take(_ steps: Int) -> Bool {
        guard stepsLeft >= 0 else { return false }
        stepsLeft -= steps
        return stepsLeft >= 0
    }
}

/// An object, so that a loop knows its automaton for it.
package final class PatternSet: Sendable {
    fileprivate let instructions: [PatternProgram.Instruction]
    fileprivate let starts: [UInt32]
    /// Whether what stood before a byte, other than nothing, matters.
    fileprivate let looksBack: Bool

    init(_ patterns: [Pattern]) {
        var instructions: [PatternProgram.Instruction] = []
        var starts: [UInt32] = []
        for pattern in patterns {
            starts.append(UInt32(instructions.count))
            instructions += pattern.program.instructions.map { $0.moved(by: instructions.count) }
        }
        self.instructions = instructions
        self.starts = starts
        looksBack = instructions.contains {
            if case .assert(let assertion) = $0 { assertion != .textStart && assertion != .textEnd } else { false }
        }
    }

    /// The pattern that an instruction is of.
    fileprivate func pattern(at instruction: Int) -> Int {
        var (low, high) = (0, starts.count)
        while low + 1 < high {
            let middle = (low + high) / 2
            if Int(starts[middle]) <= instruction { low = middle } else { high = middle }
        }
        return low
    }
}

/// The automata of one event loop, for the tables asked last.
package final class PatternCache {
    private static let maximum = 32
    private var automata: [ObjectIdentifier: PatternAutomaton] = [:]

    package init() {}

    func automaton(for set: PatternSet) -> PatternAutomaton {
        if let known = automata[ObjectIdentifier(set)] { return known }
        // Tables that are gone and those that are not: the latter begin anew, which costs little.
        if automata.count >= Self.maximum { automata = [:] }
        let new = PatternAutomaton(set)
        automata[ObjectIdentifier(set)] = new
        return new
    }
}

final class PatternAutomaton {
    /// Beyond either everything known is forgotten.
    private static let maximumStates = 256
    private static let maximumWords = 64 << 10

    private enum Before: UInt8 {
        case nothing, newline, word, other
    }
    private struct State: Hashable {
        /// Where threads stand before they have followed what takes no byte; ascending.
        let threads: [UInt32]
        let before: Before
    }
    private let set: PatternSet
    private var numbers: [State: Int32] = [:]
    private var states: [State] = []
    private var words = 0
    private var start: Int?
    private var forgotten = 0
    /// 256 for each state; -1: not known yet.
    private var transitions: [Int32] = []
    /// What a text that ends in the state matches.
    private var accepted: [[Int]?] = []
    // For working out: the last time an instruction was met, and those still to be followed.
    private var marks: [UInt32]
    private var turn: UInt32 = 0
    private var stack: [UInt32] = []

    init(_ set: PatternSet) {
        self.set = set
        marks = Array(repeating: 0, count: set.instructions.count)
    }

    /// The patterns that match the whole text, by number, ascending. Nothing once the budget is exhausted.
    func matches(_ text: Span<UInt8>, _ budget: inout MatchBudget) -> [Int] {
        var state = start ?? number(State(threads: set.starts, before: .nothing))
        start = state
        for index in 0..<text.count {
            guard budget.take(1) else { return [] }
            let byte = text[index]
            let known = transitions[state << 8 | Int(byte)]
            if known >= 0 {
                state = Int(known)
            } else if let next = follow(state, byte, &budget) {
                state = next
            } else {
                return []
            }
            if states[state].threads.isEmpty { return [] }
        }
        if let known = accepted[state] { return known }
        var result: [Int] = []
        let isDone = closure(of: states[state], after: nil, &budget) { at in
            if case .accept = set.instructions[at] { result.append(set.pattern(at: at)) }
        }
        guard isDone else { return [] }
        result.sort()
        accepted[state] = result
        return result
    }

    /// nil: the budget is exhausted.
    private func follow(_ state: Int, _ byte: UInt8, _ budget: inout MatchBudget) -> Int? {
        var threads: [UInt32] = []
        let isDone = closure(of: states[state], after: byte, &budget) { at in
            if case .take(let bytes) = set.instructions[at], bytes.contains(byte) { threads.append(UInt32(at + 1)) }
        }
        // Naming costs a step for each as well, and so much more when they are out of order, which is rare.
        guard isDone, budget.take(threads.count) else { return nil }
        if zip(threads, threads.dropFirst()).contains(where: { $0 > $1 }) {
            guard budget.take(4 * threads.count) else { return nil }
            threads.sort()
        }
        let before = forgotten
        let next = number(State(threads: threads, before: set.looksBack ? kind(of: byte) : .other))
        if forgotten == before { transitions[state << 8 | Int(byte)] = Int32(next) }
        return next
    }
    private func kind(of byte: UInt8) -> Before {
        byte == UInt8(ascii: "\n") ? .newline : ByteSet.word.contains(byte) ? .word : .other
    }

    private func number(_ state: State) -> Int {
        if let known = numbers[state] { return Int(known) }
        if states.count >= Self.maximumStates || words + state.threads.count > Self.maximumWords {
            (numbers, states, words, transitions, accepted, start) = ([:], [], 0, [], [], nil)
            forgotten += 1
        }
        numbers[state] = Int32(states.count)
        states.append(state)
        words += state.threads.count
        transitions.append(contentsOf: repeatElement(-1, count: 256))
        accepted.append(nil)
        return states.count - 1
    }

    /// Follows everything that takes no byte; false: the budget is exhausted.
    private func closure(
        of state: State, after: UInt8?, _ budget: inout MatchBudget, _ visit: (Int) -> Void
    ) -> Bool {
        turn &+= 1
        if turn == 0 {
            marks = Array(repeating: 0, count: marks.count)
            turn = 1
        }
        for thread in state.threads {
            push(thread)
            while let top = stack.popLast() {
                let at = Int(top)
                guard budget.take(1) else {
                    stack.removeAll(keepingCapacity: true)
                    return false
                }
                switch set.instructions[at] {
                case .take, .accept: visit(at)
                case .jump(let target): push(UInt32(target))
                case .fork(let first, let second):
                    push(UInt32(first))
                    push(UInt32(second))
                case .assert(let assertion): if holds(assertion, state.before, after) { push(UInt32(at + 1)) }
                }
            }
        }
        return true
    }
    private func push(_ at: UInt32) {
        guard marks[Int(at)] != turn else { return }
        marks[Int(at)] = turn
        stack.append(at)
    }

    private func holds(_ assertion: PatternNode.Assertion, _ before: Before, _ after: UInt8?) -> Bool {
        let isBoundary = (before == .word) != (after.map(ByteSet.word.contains) ?? false)
        return switch assertion {
        case .textStart: before == .nothing
        case .textEnd: after == nil
        case .lineStart: before == .nothing || before == .newline
        case .lineEnd: after == nil || after == UInt8(ascii: "\n")
        case .wordBoundary: isBoundary
        case .noWordBoundary: !isBoundary
        }
    }
}
