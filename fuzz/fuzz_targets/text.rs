#![no_main]

#[path = "../../tests/it/properties/text.rs"]
mod text;

libfuzzer_sys::fuzz_target!(|input: &[u8]| text::check(input));
