//! State of the kernel clock: synchronisation and error estimates of adjtimex(2).
#![allow(unsafe_code, reason = "adjtimex(2) is a system call that no safe crate wraps for reading")]

use serde::{Deserialize, Serialize};

/// State of the kernel clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelClock {
    /// A daemon disciplines the clock: neither `TIME_ERROR` nor `STA_UNSYNC`.
    pub synchronised: bool,
    /// Remaining offset to correct, in microseconds.
    pub offset_us: i64,
    /// Upper bound of the error, in microseconds; the kernel lets it grow to 16 s while the clock is not disciplined.
    pub max_error_us: i64,
    /// Estimated error, in microseconds.
    pub estimated_error_us: i64,
    /// A pulse-per-second signal or a precision time device disciplines it.
    pub hardware: bool,
}

/// Reads the state; changes nothing.
pub fn read() -> std::io::Result<KernelClock> {
    // SAFETY: timex is plain integers without padding that matters; all zeroes is a valid value of it, and `modes` = 0 means
    // "read only" (adjtimex(2))
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live, exclusively borrowed timex of the size that the kernel expects, for the duration of the
    // call
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(from_timex(state, &timex))
}

fn from_timex(state: i32, timex: &libc::timex) -> KernelClock {
    let nanoseconds = timex.status & libc::STA_NANO != 0;
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the fields are 32 bits wide on some targets")]
    let (offset, maxerror, esterror) = (timex.offset as i64, timex.maxerror as i64, timex.esterror as i64);
    KernelClock {
        synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
        offset_us: if nanoseconds { offset / 1000 } else { offset },
        max_error_us: maxerror,
        estimated_error_us: esterror,
        hardware: timex.status & libc::STA_PPSSIGNAL != 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn state_of_the_running_kernel() {
        let clock = read().unwrap();
        assert!(clock.max_error_us >= 0);
    }

    #[test]
    fn nanosecond_offset_and_unsynchronised_flag() {
        // SAFETY: as above
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        timex.offset = 60_000_000;
        timex.status = libc::STA_NANO;
        assert_eq!(from_timex(libc::TIME_OK, &timex).offset_us, 60_000);
        assert!(from_timex(libc::TIME_OK, &timex).synchronised);
        assert!(!from_timex(libc::TIME_ERROR, &timex).synchronised);
        timex.status = libc::STA_UNSYNC;
        assert!(!from_timex(libc::TIME_OK, &timex).synchronised);
        assert_eq!(from_timex(libc::TIME_OK, &timex).offset_us, 60_000_000);
    }
}
