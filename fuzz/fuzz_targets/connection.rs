//! libFuzzer's entry to [`rsock_fuzz::connection`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsock_fuzz::connection(data));
