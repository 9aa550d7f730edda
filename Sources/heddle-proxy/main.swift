/// The L7 proxy of a node. Everything is in the libraries `ProxyProgram` and `Proxy`.
import ProxyProgram

await ProxyProgram.main(arguments: Array(CommandLine.arguments.dropFirst()))
