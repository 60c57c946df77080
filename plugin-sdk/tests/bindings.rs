//! The generated bindings match the contract in `wit/`. To rewrite the bindings after a change of
//! the contract:
//!
//!     CLAUDINE_WRITE_BINDINGS=1 cargo test --package claudine-plugin-sdk --test bindings

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{env, fs, path::Path};

use wit_bindgen_core::{Files, WorldGenerator, wit_parser::Resolve};
use wit_bindgen_rust::Opts;

const WORLD: &str = "executor-plugin";

fn generate(contract: &Path) -> String {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(contract).unwrap();
    let world = resolve.select_world(&[package], Some(WORLD)).unwrap();
    let options = Opts {
        format: true,
        generate_all: true,
        pub_export_macro: true,
        default_bindings_module: Some("claudine_plugin_sdk::bindings".to_owned()),
        ..Opts::default()
    };
    let mut files = Files::default();
    options
        .build()
        .generate(&mut resolve, world, &mut files)
        .unwrap();
    let (_, source) = files.iter().next().unwrap();
    String::from_utf8(source.to_vec()).unwrap()
}

#[test]
fn bindings_match_the_contract() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = package.join("src/bindings/contract.in");
    let generated = generate(&package.join("../wit"));
    if env::var_os("CLAUDINE_WRITE_BINDINGS").is_some() {
        fs::write(&kept, generated).unwrap();
        return;
    }
    assert!(
        fs::read_to_string(&kept).unwrap() == generated,
        "{} does not match the contract; the top of tests/bindings.rs tells how to rewrite it",
        kept.display()
    );
}
