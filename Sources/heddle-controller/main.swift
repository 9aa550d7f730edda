/// The controller of a cluster. Everything is in the library `Controller`.
import Controller

await ControllerProgram.main(arguments: Array(CommandLine.arguments.dropFirst()))
