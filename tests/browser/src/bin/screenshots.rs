//! `make screenshots`: the pictures of the dashboard that README.md shows, taken of a real bank.

use std::path::{Path, PathBuf};

use browser_tests::{Hall, PHONE, PROJECTOR, Page};

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "docs/screenshots".into()));
    std::fs::create_dir_all(&folder).expect("the folder of the pictures can be made");
    let (_hall, page) = Hall::with_administrator(PROJECTOR);
    page.prefer_dark(false);
    let shoot = |page: &Page, name: &str| {
        page.settle();
        page.screenshot(&folder.join(name).with_extension("png"));
        println!("{}", Path::new(&folder).join(name).with_extension("png").display());
    };

    page.show("lab");
    page.click("[data-test=start]");
    page.wait_for_text("[data-test=outcome]", "committed");
    page.resize((1280, 1000));
    shoot(&page, "lab");
    page.show("bank");
    page.wait_for_text("[data-test=verdict]", "agree");
    page.wait_for_element("[data-test=ticker-link]");
    shoot(&page, "bank");

    // The receiver is gone after its vote, and the payer's branch has decided.
    page.resize((1280, 1000));
    page.arm_crash("Delhi", "after-vote");
    page.click("[data-test=start]");
    page.wait_for_text("[data-test=state-Delhi]", "down");
    page.wait_for_text("[data-test=state-Mumbai]", "committed");
    page.eval("window.scrollTo(0, 0)");
    shoot(&page, "crash");
    page.click("[data-test=faults-Delhi] [data-test=restart]");
    page.wait_for_text("[data-test=state-Delhi]", "committed");

    // A lesson, at its first question.
    page.click("[data-test=scenario-list] summary");
    page.click("[data-test=scenario-start-lost-acknowledgement]");
    page.wait_for_element("[data-test=scenario-say]");
    while page.count("[data-test=scenario-question]:not(:empty)") == 0 {
        let shown = page.text("[data-test=scenario]");
        page.click("[data-test=scenario-next]");
        let changed = format!("document.querySelector('[data-test=scenario]')?.innerText !== {shown:?}");
        page.wait_for("the lesson goes on", &changed);
    }
    page.eval("window.scrollTo(0, 0)");
    shoot(&page, "lesson");
    page.click("[data-test=scenario-stop]");

    page.show("operate");
    page.resize(PROJECTOR);
    shoot(&page, "operate");
    page.resize(PHONE);
    page.prefer_dark(true);
    page.show("lab");
    page.wait_for_element("[data-test=diagram]");
    shoot(&page, "phone");
}
