#![no_main]

#[path = "../../tests/it/properties/container.rs"]
mod container;

libfuzzer_sys::fuzz_target!(|input: &[u8]| container::check(input));
