//! A bridge that the benchmark starts: the program beside this one, open, on a port of its own choice.
//!
//! The process is killed when its value is dropped: by its handle, so never another's.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};

use crate::branch::{Branch, start_program};

/// A running bridge.
pub struct Bridge {
    child: Child,
    address: SocketAddr,
}

impl Bridge {
    /// Starts a bridge before these branches, with the branch key of `folder`.
    ///
    /// # Errors
    /// One sentence, with the end of the bridge's log when there is one.
    pub fn start(program: &Path, folder: &Path, branches: &[&Branch]) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.args(["--open", "--port", "0"]).current_dir(folder);
        for branch in branches {
            command.args(["--branch", &format!("{}={}", branch.name(), branch.address())]);
        }
        let (child, address) = start_program(command, &folder.join("bridge.log"), "bridge on http://")?;
        Ok(Self { child, address })
    }

    /// Where it takes requests.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after the wait.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
