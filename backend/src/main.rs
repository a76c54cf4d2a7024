//! The command `presil`; see `presil --help`.

fn main() -> std::process::ExitCode {
    presil::command_line::cli::main()
}
