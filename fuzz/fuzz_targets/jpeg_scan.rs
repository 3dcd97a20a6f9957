#![no_main]

#[path = "../../tests/it/properties/jpeg_scan.rs"]
mod jpeg_scan;

libfuzzer_sys::fuzz_target!(|input: &[u8]| jpeg_scan::check(input));
