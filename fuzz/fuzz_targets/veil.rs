#![no_main]

#[path = "../../tests/it/properties/veil.rs"]
mod veil;

libfuzzer_sys::fuzz_target!(|input: &[u8]| veil::check(input));
