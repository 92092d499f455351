//! A lecture hall: the demo's bank, as `make demo` starts it, in a folder that is forgotten.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use bank_tests::{clean_command, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{PROJECTOR, Page};

/// A running demo, ended when it is dropped.
pub struct Hall {
    demo: Child,
    url: String,
    _folder: TempDir,
}

impl Hall {
    /// Starts the demo and waits for its address.
    #[must_use]
    #[track_caller]
    pub fn open() -> Self {
        let folder = tempfile::Builder::new().prefix("bank-hall-").tempdir().unwrap();
        let mut command = clean_command("bank-bridge");
        command.args(["demo", "--any-ports", "--dir"]).arg(folder.path().join("bank"));
        let mut demo = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("bridge on ").map(|(_, url)| url.trim().to_string()));
        // What is written later is read too, or the demo would wait.
        std::thread::spawn(move || lines.map_while(Result::ok).count());
        let url = url.expect("the demo says where its bridge is");
        Self { demo, url, _folder: folder }
    }

    /// Where the bridge is, such as `http://127.0.0.1:40000`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts the demo, with the administrator before it in a new browser.
    #[must_use]
    #[track_caller]
    pub fn with_administrator(size: (u32, u32)) -> (Self, Page) {
        let hall = Self::open();
        let page = hall.administrator(size);
        (hall, page)
    }

    /// A new browser, signed in as the administrator.
    #[must_use]
    #[track_caller]
    pub fn administrator(&self, size: (u32, u32)) -> Page {
        let page = self.visitor(size);
        page.sign_in("Mumbai", "0", "root");
        page.wait_for_text("[data-test=verdict]", "agree");
        page
    }

    /// A new browser, signed in as the customer of an account, whose password is its number.
    #[must_use]
    #[track_caller]
    pub fn customer(&self, branch: &str, account: &str) -> Page {
        let page = self.visitor(PROJECTOR);
        page.sign_in(branch, account, account);
        page.wait_for_element("[data-test=own-balance]");
        page
    }

    /// A new browser that shows the sign-in.
    #[must_use]
    #[track_caller]
    pub fn visitor(&self, size: (u32, u32)) -> Page {
        Page::open(&self.url, size)
    }

    /// Ends the demo as Ctrl-C does, while the pages stay.
    pub fn end(&mut self) {
        let id = Pid::from_child(&self.demo);
        // It may have ended already.
        let _ = kill_process(id, Signal::INT);
        wait_until("the demo has ended", || matches!(self.demo.try_wait(), Ok(Some(_))));
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        self.end();
    }
}
