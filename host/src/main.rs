//! The `souk` binary. All of it is in the library, so that tests can reach it.

// Small allocations of requests that live for microseconds: glibc's allocator
// took a tenth of an uncached request.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    souk_host::cli::main()
}
