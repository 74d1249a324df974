//! The allocator's habits, for computations that take and return the same large tensors at every step.

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of `mimalloc.h`, which the bindings leave out; both versions of the header have it in this place.
const PURGE_DELAY: mi_option_t = 15;

/// Pages that were freed stay with this process, ready for the next tensor; otherwise the kernel takes them back after some
/// milliseconds and has to clear new ones, a quarter of the time of a training step. Not for the robot: what its models took
/// while they were loaded is for others again.
#[expect(unsafe_code, reason = "one call of the allocator, which takes two numbers")]
pub(crate) fn keep_pages() {
    // SAFETY: an option of the allocator may be set at any time, from any thread; -1 is "never" by the header.
    unsafe { mi_option_set(PURGE_DELAY, -1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = 512 << 20;

    fn resident_bytes() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    fn pages_stay_with_the_process() {
        keep_pages();
        for _ in 0..3 {
            drop(std::hint::black_box(vec![1_u8; LARGE]));
            std::thread::sleep(std::time::Duration::from_millis(300));
            drop(std::hint::black_box(vec![1_u8; 1 << 10]));
        }
        assert!(resident_bytes() > LARGE, "{} bytes", resident_bytes());
    }
}
