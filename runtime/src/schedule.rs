//! How the operating system runs a thread: SCHED_FIFO, cores, pages kept in memory; and what it refused.

use foresee_firmware_config::{Scheduling, ThreadProfile, ThreadsProfile};

/// What became of a wish; one line for people.
pub type ScheduleReport = Result<String, String>;

/// Gives the calling thread the policy, priority and cores that the profile wants. What is refused leaves the thread as it was.
pub fn schedule(threads: &ThreadsProfile, thread: &ThreadProfile) -> Vec<ScheduleReport> {
    let mut reports = Vec::new();
    if threads.scheduling == Scheduling::Fifo {
        reports.push(fifo(thread.priority));
    }
    if !thread.cores.is_empty() {
        reports.push(pin(&thread.cores));
    }
    reports
}

/// Keeps every page, present and future, in memory.
#[expect(unsafe_code, reason = "a system call without pointers")]
pub fn lock_memory() -> ScheduleReport {
    // SAFETY: takes flags alone.
    let done = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
    told(done, "every page is kept in memory", "mlockall: give CAP_IPC_LOCK or raise `ulimit -l`")
}

#[expect(unsafe_code, reason = "a system call; its one pointer is to a local value")]
fn fifo(priority: u8) -> ScheduleReport {
    let parameters = libc::sched_param { sched_priority: i32::from(priority) };
    // SAFETY: thread 0 is the calling one, and the parameters outlive the call.
    let done =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) };
    told(
        done,
        &format!("SCHED_FIFO {priority}"),
        &format!("SCHED_FIFO {priority}: give CAP_SYS_NICE or raise `ulimit -r` to {priority}"),
    )
}

#[expect(unsafe_code, reason = "a system call; its one pointer is to a local value")]
fn pin(cores: &[usize]) -> ScheduleReport {
    let mut mask = [0_u64; 16];
    for core in cores {
        if let Some(word) = mask.get_mut(core / 64) {
            *word |= 1 << (core % 64);
        }
    }
    // SAFETY: a mask of 1024 bits, as long as it says; thread 0 is the calling one.
    let done = unsafe { libc::sched_setaffinity(0, std::mem::size_of_val(&mask), mask.as_ptr().cast()) };
    told(
        done,
        &format!("cores {cores:?}"),
        &format!("cores {cores:?}: this machine has not all of them, or a cgroup keeps them"),
    )
}

fn told(done: i32, what: &str, mend: &str) -> ScheduleReport {
    match done {
        0 => Ok(what.to_owned()),
        _ => Err(format!("{mend} ({})", std::io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_permitted_is_done_and_what_is_not_is_said() {
        let (threads, everywhere) = (ThreadsProfile::default(), ThreadProfile::default());
        assert_eq!(schedule(&threads, &everywhere), []);
        let nowhere = ThreadProfile { priority: 1, cores: vec![1023] };
        let wishes = ThreadsProfile { scheduling: Scheduling::Fifo, ..ThreadsProfile::default() };
        // In a thread of its own: what was permitted ends with it.
        let reports = std::thread::spawn(move || schedule(&wishes, &nowhere)).join().unwrap();
        let [fifo, cores] = reports.as_slice() else { panic!("{reports:?}") };
        assert!(cores.as_ref().unwrap_err().contains("[1023]"), "{cores:?}");
        match fifo {
            Ok(told) => assert_eq!(told, "SCHED_FIFO 1"),
            Err(told) => assert!(told.contains("CAP_SYS_NICE"), "{told}"),
        }
        let pinned = ThreadProfile { priority: 1, cores: vec![0] };
        let reports = std::thread::spawn(move || schedule(&ThreadsProfile::default(), &pinned)).join().unwrap();
        assert_eq!(reports.len(), 1);
    }
}
