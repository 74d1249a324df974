//! Fuzzes the decoder `video` of `foresee_tests::decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foresee_tests::decoders::fuzz("video", bytes));
