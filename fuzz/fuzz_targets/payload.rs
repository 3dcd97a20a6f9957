#![no_main]

#[path = "../../tests/it/properties/payload.rs"]
mod payload;

libfuzzer_sys::fuzz_target!(|input: &[u8]| payload::check(input));
