//! Does nothing. It exists only for its dependencies; `Cargo.toml` of this package explains them.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}
