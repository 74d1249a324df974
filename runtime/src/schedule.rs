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

/// A thread as the profile wants it, for a while: dropping this, on the same thread, gives back the policy and the cores that it had.
/// What runs beside the loop is started before, or it would keep to the loop's cores.
#[derive(Debug)]
pub struct Scheduled {
    /// What was done, and what was refused.
    pub reports: Vec<ScheduleReport>,
    policy: i32,
    priority: i32,
    cores: Option<CoreMask>,
}

impl Scheduled {
    /// As [`schedule`], for as long as this lives.
    #[expect(unsafe_code, reason = "system calls; their pointers are to local values")]
    pub fn begin(threads: &ThreadsProfile, thread: &ThreadProfile) -> Self {
        let mut parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: thread 0 is the calling one, and the parameters outlive the call.
        let policy = unsafe {
            libc::sched_getparam(0, &raw mut parameters);
            libc::sched_getscheduler(0)
        };
        let mut mask = CoreMask::default();
        // SAFETY: a mask of 1024 bits, as long as it says.
        let read = unsafe { libc::sched_getaffinity(0, std::mem::size_of_val(&mask), mask.as_mut_ptr().cast()) };
        let cores = (read == 0).then_some(mask);
        Self { reports: schedule(threads, thread), policy, priority: parameters.sched_priority, cores }
    }
}

impl Drop for Scheduled {
    #[expect(unsafe_code, reason = "a system call; its one pointer is to a local value")]
    fn drop(&mut self) {
        let parameters = libc::sched_param { sched_priority: self.priority };
        // Only who has CAP_SYS_NICE may take the flag away again, and it does no harm.
        let policy = self.policy | libc::SCHED_RESET_ON_FORK;
        // SAFETY: thread 0 is the calling one, and the parameters outlive the call. A refusal leaves the thread as it is.
        unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
        self.cores.as_ref().map(set_cores);
    }
}

/// A bit a core.
type CoreMask = [u64; 16];

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

fn pin(cores: &[usize]) -> ScheduleReport {
    let mut mask = CoreMask::default();
    for core in cores {
        if let Some(word) = mask.get_mut(core / 64) {
            *word |= 1 << (core % 64);
        }
    }
    told(
        set_cores(&mask),
        &format!("cores {cores:?}"),
        &format!("cores {cores:?}: this machine has not all of them, or a cgroup keeps them"),
    )
}

#[expect(unsafe_code, reason = "a system call; its one pointer is to the lent mask")]
fn set_cores(mask: &CoreMask) -> i32 {
    // SAFETY: a mask of 1024 bits, as long as it says; thread 0 is the calling one.
    unsafe { libc::sched_setaffinity(0, std::mem::size_of_val(mask), mask.as_ptr().cast()) }
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

    /// The cores that the calling thread may run on, as the kernel lists them, such as `0-1`.
    fn allowed() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        list.trim().to_owned()
    }

    #[test]
    fn a_thread_gets_back_what_it_had() {
        let run = || {
            let before = allowed();
            let first = before.split(['-', ',']).next().unwrap().parse().unwrap();
            let pinned = ThreadProfile { priority: 1, cores: vec![first] };
            let wishes = ThreadsProfile { scheduling: Scheduling::Fifo, ..ThreadsProfile::default() };
            let scheduled = Scheduled::begin(&wishes, &pinned);
            assert_eq!((scheduled.reports.len(), allowed()), (2, first.to_string()));
            // A thread that is started now keeps to that core, whatever its policy.
            assert_eq!(std::thread::spawn(allowed).join().unwrap(), first.to_string());
            drop(scheduled);
            assert_eq!(allowed(), before);
            let again = schedule(&ThreadsProfile::default(), &ThreadProfile::default());
            assert_eq!(again, []);
        };
        std::thread::spawn(run).join().unwrap();
    }

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
