//! The sengu command: everything is in the library.

fn main() -> std::process::ExitCode {
    sengu::cli::main()
}
