//! libFuzzer's entry to [`rsock_fuzz::members`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsock_fuzz::members(data));
