#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| klingd_fuzz::properties::same_job::check(bytes));
