//! libFuzzer's entry to [`rsock_fuzz::access`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsock_fuzz::access(data));
