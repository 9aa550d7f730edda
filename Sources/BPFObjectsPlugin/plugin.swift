/// Compiles every `bpf/*.bpf.c` with `clang -target bpf` and emits one Swift file per object.
import Foundation
import PackagePlugin

@main
struct BPFObjectPlugin: BuildToolPlugin {
    func createBuildCommands(context: PluginContext, target: any Target) async throws -> [Command] {
        let clang = try context.tool(named: "clang").url
        let bpf = context.package.directoryURL.appending(path: "bpf")
        let include = bpf.appending(path: "include")
        let out = context.pluginWorkDirectoryURL
        let files = FileManager.default
        let sources = try files.contentsOfDirectory(at: bpf, includingPropertiesForKeys: nil)
            .filter { $0.lastPathComponent.hasSuffix(".bpf.c") }
        let headers = try files.contentsOfDirectory(at: include, includingPropertiesForKeys: nil)
            .filter { $0.pathExtension == "h" }
        return sources.map { source in
            let name = source.lastPathComponent.replacingOccurrences(of: ".bpf.c", with: "")
            let swift = out.appending(path: "\(name).bpf.swift")
            return .buildCommand(
                displayName: "Compiling BPF \(source.lastPathComponent)",
                executable: URL(filePath: "/bin/sh"),
                arguments: [
                    bpf.appending(path: "embed.sh").path, clang.path, source.path, include.path, swift.path, name,
                ],
                inputFiles: [source, bpf.appending(path: "embed.sh")] + headers,
                outputFiles: [swift])
        }
    }
}
