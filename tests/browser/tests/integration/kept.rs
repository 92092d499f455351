//! Runs that are kept: taken along as one file that plays without a server, and opened again in the lab, as are logs of
//! other programs and a failing seed of the simulator.

use std::fs;
use std::path::{Path, PathBuf};

use browser_tests::{Hall, PROJECTOR, Page};

/// GoVector's own form.
const FOREIGN_LOG: &str = "client {\"client\":1}\nasks <b>the server</b>\nserver {\"client\":1, \"server\":1}\nhas heard\n\
                           server {\"client\":1, \"server\":2}\nanswers\nclient {\"client\":2, \"server\":2}\nis told\n";

/// What a button of the export menu saves.
#[track_caller]
fn saved(page: &Page, button: &str) -> String {
    page.eval(
        "window.saved = null; \
         if (!window.makesAddress) { window.makesAddress = URL.createObjectURL; \
         URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return window.makesAddress.call(URL, blob); }; }",
    );
    page.click("[data-test=export] summary");
    page.click(&format!("[data-test={button}]"));
    page.wait_for("it is saved", "window.saved !== null");
    page.eval("window.saved").as_str().unwrap().to_string()
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Opens a page from the disk; nothing answers at any address.
fn open(file: &Path) -> Page {
    Page::open(&format!("file://{}", file.display()), PROJECTOR)
}

#[test]
fn a_transfer_is_taken_along_as_one_page_and_plays_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut hall = Hall::open();
    let page = hall.administrator(PROJECTOR);
    page.show("lab");
    page.click("[data-test=start]");
    page.wait_for_text("[data-test=outcome]", "committed");
    let steps = page.text("[data-test=step-count]");
    let file = write(folder.path(), "run.html", &saved(&page, "export-page"));
    page.assert_quiet(hall.url());
    hall.end();

    let page = open(&file);
    page.wait_for_text("[data-test=outcome]", "committed");
    assert_eq!(page.text("[data-test=step-count]"), steps);
    assert_eq!(page.count(".lab-svg g.arrow[data-message='commit'][data-fate=received]"), 1);
    page.wait_for_text("[data-test=log-Delhi]", "on disk");
    page.press("Home");
    page.wait_for_text("[data-test=state-Delhi]", "not asked yet");
    assert_eq!(page.count(".lab-svg g.arrow[data-message='commit']"), 0);
    page.press("ArrowRight");
    page.wait_for_text("[data-test=step-count]", "1 /");
    page.click("[data-test=play]");
    page.wait_for_text("[data-test=state-Mumbai]", "active");
    page.press("End");
    page.wait_for_text("[data-test=money-received]", "50.00");
    page.assert_quiet("file://");
}

#[test]
fn a_lesson_is_taken_along_with_its_questions() {
    let folder = tempfile::tempdir().unwrap();
    let mut hall = Hall::open();
    let page = hall.administrator(PROJECTOR);
    page.show("lab");
    page.eval(
        "fetch('/session').then((answer) => answer.json()).then(async ({result}) => { \
           const post = (path) => fetch(path, {method: 'POST', headers: {'X-CSRF-Token': result.csrf}}).then((answer) => answer.json()); \
           let {result: state} = await post('/scenarios/normal-transfer'); \
           while (!state.finished) ({result: state} = await post('/scenarios/next')); \
           return state.error; })",
    );
    let file = write(folder.path(), "lesson.html", &saved(&page, "export-lesson"));
    hall.end();

    let page = open(&file);
    page.wait_for_text("[data-test=run-lesson] h2", "message by message");
    page.click("[data-test=run-next]");
    page.wait_for_text("[data-test=run-question]", "Who holds the money now?");
    assert_eq!(page.count("[data-test=run-answer]"), 0);
    // The picture stands where it stood for the class.
    assert_eq!(page.count(".lab-svg g.arrow[data-message='prepare']"), 1);
    assert_eq!(page.count(".lab-svg g.arrow[data-message='vote yes']"), 0);
    page.click("[data-test=run-next]");
    page.wait_for_text("[data-test=run-answer]", "on hold");
    page.click("[data-test=run-next]");
    page.wait_for_text("[data-test=run-question]", "change its mind");
    page.wait_for_element(".lab-svg g.arrow[data-message='vote yes']");
    assert_eq!(page.count(".lab-svg g.arrow[data-message='commit']"), 0);
    page.click("[data-test=run-back]");
    page.wait_for_text("[data-test=run-question]", "Who holds the money now?");
    while page.count("[data-test=run-next]:not(:disabled)") > 0 {
        page.click("[data-test=run-next]");
    }
    page.wait_for_text("[data-test=outcome]", "committed");
    page.assert_quiet("file://");
}

#[test]
fn the_lab_opens_what_was_taken_along_and_what_others_made() {
    let folder = tempfile::tempdir().unwrap();
    let hall = Hall::open();
    let page = hall.administrator(PROJECTOR);
    page.show("lab");
    page.click("[data-test=start]");
    page.wait_for_text("[data-test=outcome]", "committed");
    let opened =
        |name: &str, text: &str| page.give_file("[data-test=open-file-input]", &write(folder.path(), name, text));

    opened("run.html", &saved(&page, "export-page"));
    page.wait_for_text("[data-test=run] [data-test=outcome]", "committed");
    page.click("[data-test=run-close]");
    page.wait_until_gone("[data-test=run]");
    page.wait_for_element("[data-test=start]");

    opened("foreign.log", FOREIGN_LOG);
    page.wait_for_text("[data-test=run] h1", "another program");
    page.wait_for_text("[data-test=run] [data-test=lanes]", "server");
    assert_eq!(page.count("[data-test=run] .lab-svg g.arrow[data-fate=received]"), 2);
    page.click("[data-test=run] .lab-text summary");
    page.wait_for_text("[data-test=run] [data-test=steps]", "<b>the server</b>");
    assert_eq!(page.count("[data-test=run] b"), 0, "a text is no HTML");

    // One that is open makes room for the next.
    opened("seed.json", include_str!("../../../dashboard/failing_seed.json"));
    page.wait_for_text("[data-test=run-verdict]", "seed");
    page.wait_for_element("[data-test=run] .lab-svg g.arrow");
    page.wait_for_element("[data-test=run-transfers]");
    assert_eq!(page.count("[data-test=run]"), 1);

    for (name, text, why) in [
        ("empty.json", "", "empty"),
        ("cut.json", "{\"format\":\"bank-run-1\",\"transfers\":[{", "broken off"),
        ("other.html", "<html><script>window.wasRun = true</script></html>", "not exported by the lab"),
        ("words.txt", "nothing but words", "no run"),
    ] {
        opened(name, text);
        page.wait_for_text(".toast", why);
    }
    assert_eq!(page.eval("window.wasRun ?? false"), false);
    assert_eq!(page.count("[data-test=run]"), 1, "what was open stays");
    page.assert_quiet(hall.url());
}
