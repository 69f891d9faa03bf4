//! The `todoke` binary.

use std::process::ExitCode;

// A seventh of a payment's processor time went into the allocator of the C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    todoke_hub::cli::main()
}
