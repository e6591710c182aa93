//! System calls of a node that fail, lie or take long, by strace beside it.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::node::until;

/// A tracer of one process; it lets go when it is dropped.
pub(crate) struct Strace(Child);

impl Strace {
    /// Attaches to all threads of a process; `inject` as strace takes it. Returns when each is
    /// traced.
    pub(crate) fn attach(pid: u32, inject: &str) -> Self {
        let (calls, _) = inject.split_once(':').unwrap();
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", &format!("trace={calls}"), "-e", "signal=none"]);
        command.args(["-e", &format!("inject={inject}"), "-p", &pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut strace = Self(command.spawn().unwrap());
        until("every thread is traced", || {
            assert!(strace.0.try_wait().unwrap().is_none(), "strace ended");
            fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap).all(|thread| {
                let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
                status.contains(&format!("TracerPid:\t{}\n", strace.0.id()))
            })
        });
        strace
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // It may have ended with the process.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), Signal::TERM);
        }
        let _ = self.0.wait();
    }
}
