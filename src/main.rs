//! The sengu command: everything is in the library.

// What is shipped keeps its rules: the feature that lets a proof break them is off.
const _: () = assert!(!sengu::core::sabotage::BUILT_IN, "built with the feature `sabotage`");

fn main() -> std::process::ExitCode {
    sengu::cli::main()
}
