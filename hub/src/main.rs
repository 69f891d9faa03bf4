//! The `todoke` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    todoke_hub::cli::main()
}
