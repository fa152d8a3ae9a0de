//! libFuzzer's entry to [`rsock_fuzz::topics`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsock_fuzz::topics(data));
