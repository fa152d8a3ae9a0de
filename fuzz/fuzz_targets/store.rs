//! libFuzzer's entry to [`rsock_fuzz::store`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsock_fuzz::store(data));
