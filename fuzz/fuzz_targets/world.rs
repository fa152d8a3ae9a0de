//! libFuzzer's entry to [`rsock_fuzz::world`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsock_fuzz::world(data));
