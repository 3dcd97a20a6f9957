#![no_main]

#[path = "../../tests/it/properties/wav.rs"]
mod wav;

libfuzzer_sys::fuzz_target!(|input: &[u8]| wav::check(input));
