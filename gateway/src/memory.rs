//! Gives back the memory that only the start needed: code and constants used once, and what loading the store left free in the allocator's heaps.
//!
//! Measured (x86-64, glibc, everything listening, an empty store): nine tenths of an idle gateway's resident memory are pages of the program file, most of
//! them touched by the start alone: arguments, configuration, opening the store. The kernel may take such pages back, but does so only when memory
//! is short, and until then they count. Unmapped they stay in the page cache; code that is needed again is mapped again without a read.
//!
//! Where this is not Linux nothing happens.

use std::ops::Range;

/// Once, when the start is over. It takes about a millisecond.
pub(crate) fn give_back() {
    trim_heaps();
    if let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") {
        untouched(&maps).iter().for_each(unmap);
    }
}

/// The mappings of files in `/proc/self/smaps` that are as the files are: private, not writable, and without a page that was written to before they became so.
fn untouched(maps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in maps.lines() {
        if let Some((name, value)) = line.split_once(':').filter(|(name, _)| !name.contains(' ')) {
            let is_zero = value.trim() == "0 kB";
            match name {
                "Anonymous" if !is_zero => mapping = None,
                // Written pages may have been swapped out. The line follows the other; a kernel without it gives back nothing.
                "Swap" => found.extend(mapping.take().filter(|_| is_zero)),
                _ => {}
            }
        } else {
            mapping = unwritable(line);
        }
    }
    found
}

/// The addresses of a mapping's first line, if it maps a file privately and not writably.
fn unwritable(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (addresses, rights) = (words.next()?, words.next()?);
    // Offset, device, inode, then the file's path; `[vdso]` has none.
    let path = words.nth(3)?;
    let (start, end) = addresses.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (matches!(rights, "r-xp" | "r--p") && path.starts_with('/')).then_some(address(start)?..address(end)?)
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // measured: 11.1 → 6.2 MB resident when idle, bench profile, kernel 6.18
fn unmap(pages: &Range<usize>) {
    // SAFETY: the kernel gave these bounds as those of a private, unwritable mapping of a file, none of whose pages was ever written. They can't differ
    // from the file's, so that dropping them loses nothing: an access maps the same bytes again. The mapping itself stays.
    unsafe {
        libc::madvise(pages.start as *mut libc::c_void, pages.len(), libc::MADV_DONTNEED);
    }
}

#[cfg(not(target_os = "linux"))]
fn unmap(_: &Range<usize>) {}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // measured: loading a store with 100,000 subjects leaves some MB of free blocks
fn trim_heaps() {
    // SAFETY: it takes no pointers, and only free blocks are given back.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim_heaps() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(first: &str, anonymous: u32, swap: u32) -> String {
        format!(
            "{first}\nRss:   8 kB\nAnonymous:   {anonymous} kB\nAnonHugePages:   0 kB\nSwap:   {swap} kB\nVmFlags: rd ex mr\n"
        )
    }

    #[test]
    fn only_what_is_as_the_file_is_given_back() {
        let code = "55d0c0a00000-55d0c10f2000 r-xp 001a5000 fe:00 131         /usr/bin/edge gateway";
        let constants = "55d0c0800000-55d0c0a00000 r--p 00000000 fe:00 131         /usr/bin/edge-gateway";
        let both = mapping(constants, 0, 0) + &mapping(code, 0, 0);
        assert_eq!(untouched(&both), [0x55d0_c080_0000..0x55d0_c0a0_0000, 0x55d0_c0a0_0000..0x55d0_c10f_2000]);
        // Relocated, then made unwritable.
        assert_eq!(untouched(&(mapping(constants, 4, 0) + &mapping(constants, 0, 4))), []);
        for other in [
            "55d0c1200000-55d0c1230000 rw-p 00897000 fe:00 131         /usr/bin/edge-gateway",
            "55d0c1200000-55d0c1230000 rwxp 00897000 fe:00 131         /usr/bin/edge-gateway",
            "55d0c1200000-55d0c1230000 r-xs 00897000 fe:00 131         /usr/bin/edge-gateway",
            "7f3000000000-7f3000001000 r-xp 00000000 00:00 0",
            "7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0           [vdso]",
            "",
        ] {
            assert_eq!(untouched(&mapping(other, 0, 0)), [], "{other}");
        }
    }

    /// What was given back comes back when it is called.
    #[test]
    fn the_program_goes_on_afterwards() {
        give_back();
        let resident = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        assert_eq!(resident.split(' ').count(), 7, "{resident}");
    }
}
