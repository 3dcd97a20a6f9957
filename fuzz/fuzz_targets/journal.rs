#![no_main]

#[path = "../../tests/it/properties/journal.rs"]
mod journal;

libfuzzer_sys::fuzz_target!(|input: &[u8]| journal::check(input));
