#![no_main]

#[path = "../../tests/it/properties/signed_path.rs"]
mod signed_path;

libfuzzer_sys::fuzz_target!(|input: &[u8]| signed_path::check(input));
