//! Reads a data directory from its input. If the input ends before the test has reported its own
//! end, kills every process of that directory.

fn main() -> std::io::Result<()> {
    claudine_tests::guard::main()
}
