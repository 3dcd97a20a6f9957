#![no_main]

#[path = "../../tests/it/properties/compressed.rs"]
mod compressed;

libfuzzer_sys::fuzz_target!(|input: &[u8]| compressed::check(input));
