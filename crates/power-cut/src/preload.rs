//! The interposed functions. Each calls the real one; nothing else of the process changes.
#![allow(unsafe_code, reason = "interposing C functions is what this library is for")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write as _;
use std::os::fd::FromRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use libc::{off_t, size_t, ssize_t};

use crate::{fault, kind};

struct Log {
    file: std::fs::File,
    folder: Vec<u8>,
    /// Records written so far; guarded together with the file.
    records: Mutex<u64>,
}

/// `None` when this process is not to be recorded. The log's own descriptor lies outside the folder, so its writes are not logged.
fn log() -> Option<&'static Log> {
    static LOG: OnceLock<Option<Log>> = OnceLock::new();
    let open = || {
        let folder = std::env::var_os("POWER_CUT_FOLDER")?.as_bytes().to_vec();
        let path = std::ffi::CString::new(std::env::var_os("POWER_CUT_LOG")?.as_bytes()).ok()?;
        // SAFETY: the path ends with NUL; the descriptor is ours from here on.
        let file = unsafe {
            let descriptor =
                libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC, 0o600);
            if descriptor < 0 {
                return None;
            }
            std::fs::File::from_raw_fd(descriptor)
        };
        Some(Log { file, folder, records: Mutex::new(0) })
    };
    LOG.get_or_init(open).as_ref()
}

impl Log {
    fn count(&self) -> u64 {
        *self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, kind: u8, path: &[u8], number: u64, data: &[u8]) {
        let mut record = Vec::with_capacity(15 + path.len() + data.len());
        record.push(kind);
        record.extend_from_slice(&(path.len() as u16).to_le_bytes());
        record.extend_from_slice(&(data.len() as u32).to_le_bytes());
        record.extend_from_slice(&number.to_le_bytes());
        record.extend_from_slice(path);
        record.extend_from_slice(data);
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        // A lost record would make the test report losses that are none: better to end at once.
        if (&self.file).write_all(&record).is_err() {
            std::process::abort();
        }
        *records += 1;
    }

    /// Path below the folder of what a descriptor refers to.
    fn path_of(&self, descriptor: c_int) -> Option<Vec<u8>> {
        let path = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
        let rest = path.as_os_str().as_bytes().strip_prefix(&self.folder[..])?;
        if rest.is_empty() {
            // The folder itself: a sync of it covers names.
            return Some(Vec::new());
        }
        Some(rest.strip_prefix(b"/")?.to_vec())
    }
}

/// The next definition of a function, behind this library's.
macro_rules! real {
    ($name:literal as $type:ty) => {{
        static REAL: OnceLock<usize> = OnceLock::new();
        // SAFETY: the name ends with NUL; what the loader answers under it has the C library's type, which `$type` repeats.
        unsafe {
            let address = *REAL.get_or_init(|| libc::dlsym(libc::RTLD_NEXT, $name.as_ptr()) as usize);
            std::mem::transmute::<usize, $type>(address)
        }
    }};
}

/// SAFETY: the caller promises, by the C function's contract, that `length` bytes can be read from `data`.
unsafe fn bytes<'a>(data: *const c_void, length: ssize_t) -> &'a [u8] {
    if length <= 0 {
        return &[];
    }
    // SAFETY: see above; `length` is positive.
    unsafe { std::slice::from_raw_parts(data.cast(), length as usize) }
}

/// Interposes the C function of that name.
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(descriptor: c_int, data: *const c_void, length: size_t) -> ssize_t {
    let real = real!(c"write" as unsafe extern "C" fn(c_int, *const c_void, size_t) -> ssize_t);
    if descriptor == 1
        && let Some(log) = log()
    {
        // SAFETY: the caller's promise.
        log.append(kind::ACKNOWLEDGED, b"", 0, unsafe { bytes(data, length as ssize_t) });
    }
    if descriptor > 2 && fault::strikes("space", descriptor) {
        return fault::fail(libc::ENOSPC) as ssize_t;
    }
    // SAFETY: passed on as it came.
    let written = unsafe { real(descriptor, data, length) };
    if descriptor > 2
        && written > 0
        && let Some((log, path)) = log().and_then(|log| Some((log, log.path_of(descriptor)?)))
    {
        // SAFETY: asks where the descriptor stands, nothing else.
        let end = unsafe { libc::lseek(descriptor, 0, libc::SEEK_CUR) };
        // SAFETY: the caller's promise, and `written` is at most `length`.
        log.append(kind::WRITE, &path, (end as i64 - written as i64) as u64, unsafe { bytes(data, written) });
    }
    written
}

/// Interposes the C function of that name.
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(descriptor: c_int, data: *const c_void, length: size_t, offset: off_t) -> ssize_t {
    let real = real!(c"pwrite64" as unsafe extern "C" fn(c_int, *const c_void, size_t, off_t) -> ssize_t);
    if fault::strikes("space", descriptor) {
        return fault::fail(libc::ENOSPC) as ssize_t;
    }
    // SAFETY: passed on as it came.
    let written = unsafe { real(descriptor, data, length, offset) };
    if written > 0
        && let Some((log, path)) = log().and_then(|log| Some((log, log.path_of(descriptor)?)))
    {
        // SAFETY: the caller's promise, and `written` is at most `length`.
        log.append(kind::WRITE, &path, offset as u64, unsafe { bytes(data, written) });
    }
    written
}

/// Interposes the C function of that name, which is the same as `pwrite64` here.
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(descriptor: c_int, data: *const c_void, length: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the same contract.
    unsafe { pwrite64(descriptor, data, length, offset) }
}

/// Interposes the C function of that name.
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(descriptor: c_int, length: off_t) -> c_int {
    let real = real!(c"ftruncate64" as unsafe extern "C" fn(c_int, off_t) -> c_int);
    // SAFETY: passed on as it came.
    let code = unsafe { real(descriptor, length) };
    if code == 0
        && let Some((log, path)) = log().and_then(|log| Some((log, log.path_of(descriptor)?)))
    {
        log.append(kind::TRUNCATE, &path, length as u64, b"");
    }
    code
}

/// Interposes the C function of that name, which is the same as `ftruncate64` here.
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(descriptor: c_int, length: off_t) -> c_int {
    // SAFETY: the same contract.
    unsafe { ftruncate64(descriptor, length) }
}

/// Interposes the C function of that name.
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    let real = real!(c"unlink" as unsafe extern "C" fn(*const c_char) -> c_int);
    // SAFETY: passed on as it came.
    let code = unsafe { real(path) };
    if code == 0
        && let Some(log) = log()
    {
        // SAFETY: the caller's promise: it ends with NUL.
        let path = unsafe { CStr::from_ptr(path) }.to_bytes();
        if let Some(path) = path.strip_prefix(&log.folder[..]).and_then(|path| path.strip_prefix(b"/")) {
            log.append(kind::UNLINK, path, 0, b"");
        }
    }
    code
}

/// Interposes the C function of that name.
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn statvfs(path: *const c_char, found: *mut libc::statvfs) -> c_int {
    let real = real!(c"statvfs" as unsafe extern "C" fn(*const c_char, *mut libc::statvfs) -> c_int);
    // SAFETY: passed on as it came.
    let code = unsafe { real(path, found) };
    if code == 0
        && let Some(room) = fault::room()
    {
        // SAFETY: the caller's promise, and the call has just filled it.
        let found = unsafe { &mut *found };
        found.f_bavail = room.checked_div(found.f_frsize).unwrap_or(0);
    }
    code
}

fn synced(descriptor: c_int, real: unsafe extern "C" fn(c_int) -> c_int) -> c_int {
    if fault::strikes("sync", descriptor) {
        return fault::fail(libc::EIO);
    }
    let before = log().map(Log::count);
    // SAFETY: passed on as it came.
    let code = unsafe { real(descriptor) };
    if code == 0
        && let (Some(covered), Some((log, path))) =
            (before, log().and_then(|log| Some((log, log.path_of(descriptor)?))))
    {
        log.append(kind::SYNC, &path, covered, b"");
    }
    code
}

/// Interposes the C function of that name.
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(descriptor: c_int) -> c_int {
    synced(descriptor, real!(c"fsync" as unsafe extern "C" fn(c_int) -> c_int))
}

/// Interposes the C function of that name.
///
/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    synced(descriptor, real!(c"fdatasync" as unsafe extern "C" fn(c_int) -> c_int))
}
