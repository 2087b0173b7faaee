//! Confines threads to computing: parsing untrusted bytes needs no files, sockets or processes.
//!
//! A filter of system calls (seccomp) belongs to one thread, so the importing threads that inflate and parse
//! give up, before the first byte, all calls that open, name, create or send anything. The remaining calls
//! work on memory, on time and on files that are open already. Any other call fails with `EPERM`: killing the
//! thread would kill the whole process, a server with other calls to answer.
//!
//! It is a second line of defence: no name of a tar becomes a path anyway. It is weaker than a process of its
//! own: threads share memory, so corrupting it could reach another thread.
//! `docs/decisions/0007-confined-threads.md` has the measurements.
//!
//! Sources: seccomp(2), `SECCOMP_SET_MODE_FILTER`; for the calls of a thread that only computes,
//! signal-safety and thread start of glibc and musl.

use std::collections::BTreeMap;
use std::sync::{Once, OnceLock};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// Memory, waiting, time, random numbers, signals and the end of a thread: none of them names a file or
/// process.
const COMPUTING: [i64; 26] = [
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_close,
];
/// Calls to sync the tar after its writing thread, which has no such filter, has written it.
const SYNCING: [i64; 3] = [libc::SYS_fdatasync, libc::SYS_fsync, libc::SYS_fadvise64];
/// Allowed to standard error only: logs, and the message of a panic.
const WRITING: [i64; 2] = [libc::SYS_write, libc::SYS_writev];
const STANDARD_ERROR: u64 = 2;

/// Denies the calling thread, for the rest of its life, all system calls but those of a computation. If the
/// kernel does not support that or refuses, this logs it once and the thread goes on unconfined.
pub fn confine_this_thread() {
    static LOGGED: Once = Once::new();
    if let Err(reason) = try_confine() {
        LOGGED.call_once(|| {
            tracing::warn!("threads that parse layers run without a system call filter: {reason}");
        });
    }
}

fn try_confine() -> Result<(), String> {
    static FILTER: OnceLock<Result<BpfProgram, String>> = OnceLock::new();
    let filter = FILTER.get_or_init(|| compile().map_err(|error| error.to_string()));
    apply_filter(filter.as_ref().map_err(Clone::clone)?).map_err(|error| error.to_string())
}

fn compile() -> Result<BpfProgram, seccompiler::BackendError> {
    let to_standard_error =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, STANDARD_ERROR)?;
    let to_standard_error = SeccompRule::new(vec![to_standard_error])?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        COMPUTING.into_iter().chain(SYNCING).map(|call| (call, Vec::new())).collect();
    rules.extend(WRITING.map(|call| (call, vec![to_standard_error.clone()])));
    let refuse = SeccompAction::Errno(libc::EPERM as u32); // a small positive number
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{self, ErrorKind};
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    fn refused<T>(result: io::Result<T>) {
        match result {
            Ok(_) => panic!("allowed"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}"),
        }
    }

    #[test]
    fn a_confined_thread_opens_and_makes_nothing_and_others_still_do() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("file");
        std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                try_confine().unwrap();
                refused(File::open("/proc/self/status"));
                refused(File::create(&inside));
                refused(std::fs::create_dir(&inside));
                refused(std::fs::remove_dir(dir.path()));
                refused(std::os::unix::fs::symlink("a", &inside));
                refused(UdpSocket::bind("127.0.0.1:0"));
                refused(TcpStream::connect("127.0.0.1:1"));
                refused(UnixStream::connect("/run/x"));
                refused(Command::new("true").spawn());
                refused(io::pipe());
                assert!(std::thread::Builder::new().spawn(|| ()).is_err());
            });
            confined.join().unwrap();
        });
        File::create(&inside).unwrap();
        Command::new("true").status().unwrap();
    }

    #[test]
    fn a_confined_thread_computes_waits_and_ends() {
        let (send, receive) = crossbeam_channel::bounded::<Vec<u8>>(1);
        let (back, sums) = crossbeam_channel::bounded(1);
        let thread = std::thread::spawn(move || {
            try_confine().unwrap();
            for block in receive {
                // Grow and shrink, so that memory is requested from the kernel and returned.
                let mut copy = block.clone();
                copy.extend_from_slice(&block);
                let random: std::collections::HashSet<u8> = copy.iter().copied().collect();
                back.send((copy.len(), random.len())).unwrap();
            }
        });
        for size in [1, 4096, 64 << 20] {
            send.send(vec![7; size]).unwrap();
            assert_eq!(sums.recv().unwrap(), (2 * size, 1));
        }
        drop(send);
        thread.join().unwrap();
    }

    #[test]
    fn a_panic_of_a_confined_thread_is_a_panic_and_no_more() {
        let thread = std::thread::spawn(|| {
            try_confine().unwrap();
            panic!("as it should");
        });
        let panic = thread.join().unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"as it should"));
    }
}
