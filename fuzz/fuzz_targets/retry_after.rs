#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| klingd_fuzz::properties::retry_after::check(bytes));
