//! libFuzzer's entry to [`rsock_fuzz::decode`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsock_fuzz::decode(data));
