//! Reads a data directory from its input, and ends every process of it if the input ends before the
//! test has said that it came to its own end.

fn main() -> std::io::Result<()> {
    claudine_tests::guard::main()
}
