/// The node agent. Everything is in the library `Agent`.
import Agent

await AgentProgram.main(arguments: Array(CommandLine.arguments.dropFirst()))
