//! libFuzzer's entry to [`rsock_fuzz::plain_json`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsock_fuzz::plain_json(data));
