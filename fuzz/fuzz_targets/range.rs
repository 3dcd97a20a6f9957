#![no_main]

#[path = "../../tests/it/properties/range.rs"]
mod range;

libfuzzer_sys::fuzz_target!(|input: &[u8]| range::check(input));
