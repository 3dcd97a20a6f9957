#![no_main]

#[path = "../../tests/it/properties/url_policy.rs"]
mod url_policy;

libfuzzer_sys::fuzz_target!(|input: &[u8]| url_policy::check(input));
