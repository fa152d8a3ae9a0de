//! libFuzzer's entry to [`rsock_fuzz::proxy_header`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsock_fuzz::proxy_header(data));
