/// The operator's tool. Everything is in the library `AgentCommands`.
import AgentCommands

AgentctlProgram.main(arguments: Array(CommandLine.arguments.dropFirst()))
