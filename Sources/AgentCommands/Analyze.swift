/// `agentctl analyze`: judges files before anybody applies them, which asks neither agent nor cluster, or what the
/// controller knows.
import AdminAPI
import ArgumentParser
import Cluster
import Glibc
import Manifests
import Posix
import Validation

struct Analyze: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What is wrong with manifests before they are applied, or with a cluster.",
        discussion: """
            Reads YAML and JSON from files, directories (not those below them) and,
            for -, the standard input. What is not given is unknown, not missing.
            Exits with 1 if there are errors; docs/analyze.md explains every code.

            Examples:
              agentctl analyze deploy/
              agentctl analyze route.yaml service.yaml --strict
              agentctl analyze -o json -
              agentctl analyze --cluster --namespace shop   the controller's, in its pod
            """)

    @Argument(help: "Files, directories, or - for the standard input.")
    var files: [String] = []
    @Flag(help: "Of the whole cluster: ask the controller, in whose pod this runs.")
    var cluster = false
    @Flag(help: "Exit with 1 for warnings, too.")
    var strict = false
    @Option(help: "Namespace of objects that name none (default: default); with --cluster: only what is in this one.")
    var namespace: String?
    @OptionGroup var options: SharedOptions

    func validate() throws {
        guard cluster == files.isEmpty else {
            throw ValidationError(
                cluster
                    ? "--cluster judges what the controller knows; leave the files out"
                    : "name files or directories, - for the standard input, or --cluster")
        }
    }

    func run() throws {
        let result = try cluster ? ofCluster() : ofFiles()
        if options.output == .json {
            try Output.json(result)
        } else {
            Output.tell(result.text)
        }
        if result.errors > 0 || strict && result.warnings > 0 { throw ExitCode(1) }
    }

    private func ofFiles() throws(CommandFailure) -> Analysis.Result {
        var analysis = Analysis(namespace: namespace ?? "default")
        for file in files {
            for (name, bytes) in try read(file) { analysis.add(name, bytes) }
        }
        return analysis.result()
    }

    private func ofCluster() throws(CommandFailure) -> Analysis.Result {
        let query = namespace.map { [(name: "namespace", value: $0)] } ?? []
        return Analysis.Result(try options.controller.get(ClusterAnalysis.self, AdminPath.analysis, query))
    }

    private static let maximumBytes = 64 << 20

    private func read(_ path: String) throws(CommandFailure) -> [(String, [UInt8])] {
        if path == "-" { return [("standard input", try bytes("/dev/stdin"))] }
        guard let directory = opendir(path) else { return [(path, try bytes(path))] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            let isManifest = [".yaml", ".yml", ".json"].contains { name.hasSuffix($0) }
            if isManifest, !name.hasPrefix("."), !name.hasPrefix("kustomization.") { names.append(name) }
        }
        guard !names.isEmpty else { throw CommandFailure("\(path) has no .yaml, .yml or .json file") }
        var result: [(String, [UInt8])] = []
        for name in names.sorted() { result.append(("\(path)/\(name)", try bytes("\(path)/\(name)"))) }
        return result
    }

    private func bytes(_ path: String) throws(CommandFailure) -> [UInt8] {
        do throws(PosixError) { return try readFile(path, limit: Self.maximumBytes) } catch {
            throw CommandFailure("\(path): \(error.reason)")
        }
    }
}

/// Files in, judgements out.
struct Analysis {
    struct Entry: Encodable {
        let severity: String
        let code: String
        let object: String?
        let field: String?
        let location: String?
        let message: String
    }
    struct Result: Encodable {
        var entries: [Entry] = []
        var objects = 0
        var errors = 0
        var warnings = 0
        /// What was not judged, in a line each.
        var notes: [String] = []
    }

    private var decoder: ObjectDecoder
    private var set = ObjectSet()
    private var places: [ObjectID: String] = [:]
    private var entries: [Entry] = []
    private var ignored: Set<String> = []

    init(namespace: String) {
        var options = ObjectDecoder.Options()
        options.defaultNamespace = namespace
        options.absentPortNameIsEmpty = true
        options.slicesNeedService = true
        options.unallocatedClusterIPs = ObjectSet.unallocated
        decoder = ObjectDecoder(options: options)
    }

    mutating func add(_ name: String, _ bytes: [UInt8]) {
        let file = ManifestFile(name: name, bytes: bytes, decoder: &decoder, readsTemplates: true)
        for problem in file.problems { entries.append(Entry(problem)) }
        for template in file.templates { set.add(template) }
        ignored.formUnion(file.ignoredKinds.keys)
        for entry in file.entries {
            let place = "\(name):\(entry.line)"
            if let first = places[entry.object.id] {
                entries.append(
                    Entry(
                        severity: Severity.error.rawValue, code: "given-twice", object: "\(entry.object.id)",
                        field: nil, location: place,
                        message: "is also in \(first), and that one was judged; remove one of them"))
                continue
            }
            places[entry.object.id] = place
            set.add(entry.object)
        }
    }

    func result() -> Result {
        let report = judge(set)
        var result = Result()
        result.entries =
            entries
            + report.judgements.map {
                Entry(
                    severity: $0.severity.rawValue, code: $0.code, object: "\($0.object)", field: $0.field,
                    location: places[$0.object], message: $0.message)
            }
        result.objects = places.count
        result.errors = result.entries.count { $0.severity == Severity.error.rawValue }
        result.warnings = result.entries.count - result.errors
        if let unjudged = report.unjudged { result.notes.append(unjudged) }
        if !ignored.isEmpty {
            result.notes.append(
                "\(ignored.count) kinds that Heddle does not read: \(ignored.sorted().joined(separator: ", "))")
        }
        return result
    }
}

extension Analysis.Entry {
    init(_ problem: SourceProblem) {
        let (severity, code) =
            switch problem.effect {
            case .refused: (Severity.error, "undecodable")
            case .leftOut: (Severity.warning, "left-out")
            case .repeated: (Severity.error, "given-twice")
            }
        self.init(
            severity: severity.rawValue, code: code, object: problem.object, field: problem.field,
            location: problem.location, message: problem.message)
    }
}

extension Analysis.Result {
    init(_ answer: ClusterAnalysis) {
        entries = answer.entries.map {
            .init(
                severity: $0.severity, code: $0.code, object: $0.object, field: $0.field.isEmpty ? nil : $0.field,
                location: nil, message: $0.message)
        }
        (objects, errors, warnings, notes) = (answer.objects, answer.errors, answer.warnings, answer.notes)
    }

    var text: String {
        var table = Table("SEVERITY", "CODE", "OBJECT", "FIELD", "WHERE", "WHAT")
        for entry in entries {
            table.add(
                entry.severity, entry.code, entry.object ?? "-", entry.field ?? "-", entry.location ?? "-",
                entry.message)
        }
        return (entries.isEmpty ? "" : table.text)
            + "\(objects) objects: \(errors) errors, \(warnings) warnings\n" + notes.map { "note: \($0)\n" }.joined()
    }
}
