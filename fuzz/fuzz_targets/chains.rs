#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presil::doors::vhost_user::any_queue::serve(data));
