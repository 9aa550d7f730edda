/// `agentctl completion`: a script that teaches a shell the commands and options.
import ArgumentParser

struct Completion: ParsableCommand {
    enum Shell: String, ExpressibleByArgument, CaseIterable {
        case bash, zsh, fish
    }
    static let configuration = CommandConfiguration(
        abstract: "Prints a completion script for bash, zsh or fish.",
        discussion: """
            Examples:
              agentctl completion bash > /etc/bash_completion.d/agentctl
              agentctl completion zsh > "${fpath[1]}/_agentctl"
              agentctl completion fish > ~/.config/fish/completions/agentctl.fish
            """)

    @Argument(help: "bash, zsh or fish.")
    var shell: Shell

    func run() {
        let form: CompletionShell =
            switch shell {
            case .bash: .bash
            case .zsh: .zsh
            case .fish: .fish
            }
        Output.tell(Agentctl.completionScript(for: form))
    }
}
