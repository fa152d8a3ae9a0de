//! libFuzzer's entry to [`rsock_fuzz::certificate`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsock_fuzz::certificate(data));
