//! The command `presil`; see `presil --help`.

fn main() -> std::process::ExitCode {
    presil::cli::main()
}
