//! Faults to order: what the test writes into the control file strikes the next calls, in the process that it runs in itself.
#![allow(unsafe_code, reason = "errno is the C library's")]

use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Does a fault of that kind strike a call on that descriptor?
pub(crate) fn strikes(kind: &str, descriptor: c_int) -> bool {
    static CONTROL: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(control) = CONTROL.get_or_init(|| std::env::var_os("POWER_CUT_FAULT").map(PathBuf::from)) else {
        return false;
    };
    let Ok(order) = std::fs::read_to_string(control) else { return false };
    let names = || order.lines().filter_map(|line| line.trim().split_once(' ')).filter(|(ordered, _)| *ordered == kind);
    names().next().is_some()
        && std::fs::read_link(format!("/proc/self/fd/{descriptor}"))
            .is_ok_and(|path| path.file_name().is_some_and(|file| names().any(|(_, name)| file == name)))
}

/// The free bytes of a file system that `room <bytes>` orders.
pub(crate) fn room() -> Option<u64> {
    let order = std::fs::read_to_string(std::env::var_os("POWER_CUT_FAULT")?).ok()?;
    order.lines().find_map(|line| line.strip_prefix("room ")?.trim().parse().ok())
}

/// Sets the error of a failed call.
pub(crate) fn fail(code: c_int) -> c_int {
    // SAFETY: the C library's own place for this thread's error.
    unsafe { *libc::__errno_location() = code };
    -1
}
