//! Does nothing: it exists for its dependencies, which this package's manifest explains.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}
