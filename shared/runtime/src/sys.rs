//! The one call that needs `unsafe`: ending without running destructors.

/// Ends the process at once with this status. librdkafka's threads may still run: `exit` would tear down what they use.
#[allow(unsafe_code)]
pub fn exit_now(code: u8) -> ! {
    // SAFETY: `_exit` takes any status, touches no memory of ours and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}
