/// A pattern as instructions, and the machine that runs them over a text: one pass, all threads side by side.

indirect enum PatternNode {
    case empty
    case set(ByteSet)
    case sequence([PatternNode])
    case choice([PatternNode])
    case repetition(PatternNode, minimum: Int, maximum: Int?)
    case assertion(Assertion)

    enum Assertion {
        case textStart
        case textEnd
        case lineStart
        case lineEnd
        case wordBoundary
        case noWordBoundary
    }
}

struct PatternProgram: Sendable {
    enum Instruction: Sendable {
        /// Takes one byte of the set, goes on with the next instruction.
        case take(ByteSet)
        case jump(Int)
        case fork(Int, Int)
        case assert(PatternNode.Assertion)
        case accept

        /// For a place behind other programs.
        func moved(by offset: Int) -> Instruction {
            switch self {
            case .jump(let target): .jump(target + offset)
            case .fork(let first, let second): .fork(first + offset, second + offset)
            case .take, .assert, .accept: self
            }
        }
    }
    private(set) var instructions: [Instruction] = []

    init(_ node: PatternNode) throws(PatternError) {
        try emit(node)
        try append(.accept)
    }

    private mutating func append(_ instruction: Instruction) throws(PatternError) {
        guard instructions.count < Pattern.maximumStates else {
            throw PatternError("it needs more than \(Pattern.maximumStates) states; make its repetitions smaller")
        }
        instructions.append(instruction)
    }

    private mutating func emit(_ node: PatternNode) throws(PatternError) {
        switch node {
        case .empty: break
        case .set(let set): try append(.take(set))
        case .assertion(let assertion): try append(.assert(assertion))
        case .sequence(let parts): for part in parts { try emit(part) }
        case .choice(let parts): try emitChoice(parts)
        case .repetition(let part, let minimum, let maximum): try emitRepetition(part, minimum, maximum)
        }
    }

    private mutating func emitChoice(_ parts: [PatternNode]) throws(PatternError) {
        var exits: [Int] = []
        for (index, part) in parts.enumerated() {
            guard index < parts.count - 1 else {
                try emit(part)
                break
            }
            let fork = instructions.count
            try append(.fork(fork + 1, fork + 1))
            try emit(part)
            exits.append(instructions.count)
            try append(.jump(0))
            instructions[fork] = .fork(fork + 1, instructions.count)
        }
        for exit in exits { instructions[exit] = .jump(instructions.count) }
    }

    private mutating func emitRepetition(_ part: PatternNode, _ minimum: Int, _ maximum: Int?) throws(PatternError) {
        for _ in 0..<minimum {
            let before = instructions.count
            try emit(part)
            // Nothing repeated is nothing, a million times over as well.
            guard instructions.count > before else { return }
        }
        let start = instructions.count
        guard let maximum else {
            try append(.fork(0, 0))
            try emit(part)
            try append(.jump(start))
            instructions[start] = .fork(start + 1, instructions.count)
            return
        }
        var forks: [Int] = []
        for _ in minimum..<max(maximum, minimum) {
            forks.append(instructions.count)
            try append(.fork(0, 0))
            try emit(part)
        }
        for fork in forks { instructions[fork] = .fork(fork + 1, instructions.count) }
    }

    var literalPrefix: [UInt8] {
        var result: [UInt8] = []
        for instruction in instructions {
            switch instruction {
            case .assert(.textStart) where result.isEmpty: continue
            case .take(let set):
                guard let byte = set.single else { return result }
                result.append(byte)
            default: return result
            }
        }
        return result
    }

    func matches(_ text: Span<UInt8>, _ budget: inout MatchBudget) -> Bool {
        // Two lists of threads, the marks of those already listed, and a stack: on the machine's stack when small.
        let count = instructions.count
        guard budget.take(count) else { return false }
        return withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 4 * count) { memory in
            memory.initialize(repeating: 0)
            var machine = PatternMachine(program: instructions, memory: memory)
            return machine.run(text, &budget)
        }
    }
}

/// Runs in memory lent by the caller.
private struct PatternMachine {
    private let program: [PatternProgram.Instruction]
    private let count: Int
    private let memory: UnsafeMutableBufferPointer<UInt32>
    private var current = 0
    private var currentCount = 0
    private var nextCount = 0

    init(program: [PatternProgram.Instruction], memory: UnsafeMutableBufferPointer<UInt32>) {
        self.program = program
        self.memory = memory
        count = program.count
    }
    private var next: Int { current == 0 ? count : 0 }
    private var marks: Int { 2 * count }
    private var stack: Int { 3 * count }

    mutating func run(_ text: Span<UInt8>, _ budget: inout MatchBudget) -> Bool {
        // Listed for position p: mark p + 1, so that zero means never.
        guard !add(0, text, 0) || text.count > 0 else { return true }
        for position in 0..<text.count {
            (current, currentCount, nextCount) = (next, nextCount, 0)
            // Each thread is looked at, and followed over two instructions or so.
            guard currentCount > 0, budget.take(3 * currentCount) else { return false }
            let byte = text[position]
            var accepts = false
            for index in 0..<currentCount {
                let at = Int(memory[current + index])
                guard case .take(let set) = program[at], set.contains(byte) else { continue }
                if add(at + 1, text, position + 1) { accepts = true }
            }
            if position == text.count - 1 { return accepts }
        }
        return false
    }

    /// Follows everything that takes no byte; says whether `accept` is among it.
    private mutating func add(_ start: Int, _ text: Span<UInt8>, _ position: Int) -> Bool {
        var depth = 0
        var accepts = false
        func mark(_ at: Int) -> Bool {
            guard memory[marks + at] != UInt32(position + 1) else { return false }
            memory[marks + at] = UInt32(position + 1)
            return true
        }
        func push(_ at: Int) {
            guard mark(at) else { return }
            memory[stack + depth] = UInt32(at)
            depth += 1
        }
        push(start)
        while depth > 0 {
            depth -= 1
            let at = Int(memory[stack + depth])
            switch program[at] {
            case .take:
                memory[next + nextCount] = UInt32(at)
                nextCount += 1
            case .jump(let target): push(target)
            case .fork(let first, let second):
                push(first)
                push(second)
            case .assert(let assertion): if holds(assertion, text, position) { push(at + 1) }
            case .accept: accepts = true
            }
        }
        return accepts
    }

    private func holds(_ assertion: PatternNode.Assertion, _ text: Span<UInt8>, _ position: Int) -> Bool {
        let before = position > 0 ? text[position - 1] : nil
        let after = position < text.count ? text[position] : nil
        let isBoundary = before.map(ByteSet.word.contains) ?? false != after.map(ByteSet.word.contains) ?? false
        return switch assertion {
        case .textStart: position == 0
        case .textEnd: position == text.count
        case .lineStart: before == nil || before == UInt8(ascii: "\n")
        case .lineEnd: after == nil || after == UInt8(ascii: "\n")
        case .wordBoundary: isBoundary
        case .noWordBoundary: !isBoundary
        }
    }
}
