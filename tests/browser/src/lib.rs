//! A real browser on the dashboard: an installed Chrome or Chromium, without a window, driven by its own protocol.
//!
//! A [`Page`] is one browser with one tab and a profile of its own, ended when it is dropped. It notes everything
//! that the console complains of and every address that is fetched, so that each test can end with
//! [`Page::assert_quiet`]. Nothing here sleeps for a fixed time: what has to be waited for is a condition in the
//! page, with [`DEADLINE`] as its end. A helper that fails panics, because that fails its test.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a helper of a test fails as the test does")]

mod hall;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bank_tests::DEADLINE;
use headless_chrome::browser::tab::point::Point;
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::protocol::cdp::{Emulation, Network, Page as PageDomain, Runtime};
use headless_chrome::{Browser, LaunchOptions, Tab};
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

pub use hall::Hall;

/// Where a browser may be, when `BANK_BROWSER` does not say.
const BROWSERS: [&str; 5] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// A lecture hall's projector, in CSS pixels.
pub const PROJECTOR: (u32, u32) = (1280, 800);
/// A small phone, in CSS pixels.
pub const PHONE: (u32, u32) = (360, 740);

/// One tab of one browser.
pub struct Page {
    // The tab goes before its browser, which ends the process.
    tab: Arc<Tab>,
    browser: Browser,
    noted: Arc<Mutex<Noted>>,
    _scratch: Scratch,
}

/// The browser's profile and whatever else it writes, forgotten when this is dropped.
struct Scratch(TempDir);

/// What the browser has told by itself.
#[derive(Debug, Default)]
struct Noted {
    complaints: Vec<String>,
    fetched: Vec<String>,
}

impl Page {
    /// Opens a page in a new browser, in the light theme.
    #[must_use]
    #[track_caller]
    pub fn open(url: &str, size: (u32, u32)) -> Self {
        let page = Self::start(size);
        page.go_to(url);
        page
    }

    fn start((width, height): (u32, u32)) -> Self {
        let scratch = Scratch(tempfile::Builder::new().prefix("bank-browser-").tempdir().unwrap());
        // Root has no sandbox, and a container often has none either; the page is our own.
        let arguments = ["--disable-quic", "--disable-component-update", "--disable-domain-reliability", "--lang=en"];
        let options = LaunchOptions {
            path: Some(
                find_browser().expect("there is no Chrome or Chromium: install one, or name it in BANK_BROWSER"),
            ),
            sandbox: false,
            window_size: Some((width, height)),
            args: arguments.map(OsStr::new).to_vec(),
            idle_browser_timeout: DEADLINE * 10,
            user_data_dir: Some(scratch.0.path().join("profile")),
            process_envs: Some([("TMPDIR".into(), scratch.0.path().display().to_string())].into()),
            ..LaunchOptions::default()
        };
        let browser = Browser::new(options).unwrap();
        let tab = browser.new_tab().unwrap();
        tab.set_default_timeout(DEADLINE);
        let noted: Arc<Mutex<Noted>> = Arc::default();
        let listener = Arc::clone(&noted);
        tab.add_event_listener(Arc::new(move |event: &Event| note(&listener, event))).unwrap();
        tab.enable_log().unwrap();
        tab.enable_runtime().unwrap();
        let page = Self { tab, browser, noted, _scratch: scratch };
        page.call(Network::Enable {
            max_total_buffer_size: None,
            max_resource_buffer_size: None,
            max_post_data_size: None,
            report_direct_socket_traffic: None,
            enable_durable_messages: None,
        });
        page.resize((width, height));
        page
    }

    /// Opens so many further tabs of this browser at an address, and waits until each shows an element.
    #[must_use]
    #[track_caller]
    pub fn more_tabs(&self, count: usize, url: &str, selector: &str) -> Vec<Arc<Tab>> {
        let open = |_| {
            let tab = self.browser.new_tab().unwrap();
            tab.set_default_timeout(DEADLINE);
            tab.navigate_to(url).unwrap();
            tab.wait_for_element(selector).unwrap();
            tab
        };
        (0..count).map(open).collect()
    }

    /// Signs in at the page's own form.
    #[track_caller]
    pub fn sign_in(&self, branch: &str, account: &str, password: &str) {
        self.choose("#signin-branch", branch);
        self.fill("#signin-account", account);
        self.fill("#signin-password", password);
        self.click("#signin-submit");
    }

    /// Shows a view of the dashboard.
    #[track_caller]
    pub fn show(&self, view: &str) {
        self.click(&format!("[data-test=nav-{view}]"));
    }

    /// Shows the lab, and arms a point there at which a branch crashes in the next transfer.
    #[track_caller]
    pub fn arm_crash(&self, branch: &str, point: &str) {
        let of_branch = |control: &str| format!("[data-test=faults-{branch}] [data-test={control}]");
        self.show("lab");
        self.choose(&of_branch("crash-point"), point);
        self.click(&of_branch("crash-arm"));
        self.wait_for_element(&of_branch("crash-disarm"));
    }

    /// Makes the window another size; below 500 pixels wide it is a phone's.
    pub fn resize(&self, (width, height): (u32, u32)) {
        self.call(Emulation::SetDeviceMetricsOverride {
            width,
            height,
            device_scale_factor: 1.0,
            mobile: width < 500,
            scale: None,
            screen_width: None,
            screen_height: None,
            position_x: None,
            position_y: None,
            dont_set_visible_size: None,
            screen_orientation: None,
            viewport: None,
            display_feature: None,
            device_posture: None,
        });
    }

    /// Asks for the dark theme, or the light one, and for no animations, so that a picture is not of half of one.
    pub fn prefer_dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = [("prefers-color-scheme", value), ("prefers-reduced-motion", "reduce")];
        let features = features.map(|(name, value)| Emulation::MediaFeature { name: name.into(), value: value.into() });
        let features = features.to_vec();
        self.call(Emulation::SetEmulatedMedia { media: None, features: Some(features) });
    }

    /// Goes to an address, or to another part of the page that is shown.
    #[track_caller]
    pub fn go_to(&self, url: &str) {
        let same_page = url.split('#').next() == self.tab.get_url().split('#').next();
        let go = || self.tab.navigate_to(url).map(|_| ()).unwrap();
        if same_page { go() } else { self.wait_for_a_new_page(go) }
    }

    /// Loads the page anew.
    #[track_caller]
    pub fn reload(&self) {
        self.wait_for_a_new_page(|| self.tab.reload(false, None).map(|_| ()).unwrap());
    }

    /// The browser calls a page loaded when its network is idle, which a page with a stream of events never is.
    #[track_caller]
    fn wait_for_a_new_page(&self, go: impl FnOnce()) {
        self.eval("window.isTheOldPage = true");
        go();
        self.wait_for("the page is loaded", "!window.isTheOldPage && document.readyState === 'complete'");
    }

    /// The value of an expression, or what its promise comes to.
    ///
    /// # Panics
    /// When it throws.
    #[track_caller]
    pub fn eval(&self, expression: &str) -> Value {
        let answer = self.call(Runtime::Evaluate {
            expression: expression.into(),
            return_by_value: Some(true),
            await_promise: Some(true),
            object_group: None,
            include_command_line_api: None,
            silent: None,
            context_id: None,
            generate_preview: None,
            user_gesture: None,
            throw_on_side_effect: None,
            timeout: None,
            disable_breaks: None,
            repl_mode: None,
            allow_unsafe_eval_blocked_by_csp: None,
            unique_context_id: None,
            serialization_options: None,
        });
        assert!(answer.exception_details.is_none(), "{expression}: {:?}", answer.exception_details);
        answer.result.value.unwrap_or(Value::Null)
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn wait_for(&self, what: &str, expression: &str) {
        let is_true = || self.eval(&format!("Boolean({expression})")) == Value::Bool(true);
        let start = Instant::now();
        while !is_true() {
            if start.elapsed() > DEADLINE {
                let shown = self.eval("document.body ? document.body.innerText.slice(0, 3000) : ''");
                panic!("waited {DEADLINE:?} in vain until {what}; the page shows: {shown}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until an element is there and to be seen.
    #[track_caller]
    pub fn wait_for_element(&self, selector: &str) {
        self.wait_for(&format!("{selector} is shown"), &visible(selector));
    }

    /// Waits until an element is not there or not to be seen.
    #[track_caller]
    pub fn wait_until_gone(&self, selector: &str) {
        self.wait_for(&format!("{selector} is gone"), &format!("!({})", visible(selector)));
    }

    /// Waits until the text of an element has `text` in it.
    #[track_caller]
    pub fn wait_for_text(&self, selector: &str, text: &str) {
        let (selector_js, text_js) = (quoted(selector), quoted(text));
        let found = format!(
            "[...document.querySelectorAll({selector_js})].some((found) => (found.innerText ?? found.textContent).includes({text_js}))"
        );
        self.wait_for(&format!("{selector} says {text:?}"), &found);
    }

    /// The text of an element.
    #[must_use]
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        self.wait_for_element(selector);
        let text = self.eval(&format!("document.querySelector({}).innerText", quoted(selector)));
        text.as_str().unwrap().to_string()
    }

    /// How many elements there are.
    #[must_use]
    pub fn count(&self, selector: &str) -> u64 {
        self.eval(&format!("document.querySelectorAll({}).length", quoted(selector))).as_u64().unwrap()
    }

    /// Clicks on an element as a mouse does, when it is there, stands still, and nothing lies on it.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let selector_js = quoted(selector);
        // Its middle, once it is the same in two frames one after the other.
        let middle = format!(
            "(async () => {{ \
               const found = [...document.querySelectorAll({selector_js})].find((one) => one.getClientRects().length > 0); \
               if (!found || found.disabled) return null; \
               found.scrollIntoView({{block: 'center', inline: 'nearest', behavior: 'instant'}}); \
               const frame = () => new Promise((done) => requestAnimationFrame(done)); \
               const where = () => {{ const box = found.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }}; \
               await frame(); const before = where(); await frame(); const [x, y] = where(); \
               if (before[0] !== x || before[1] !== y) return null; \
               const hit = document.elementFromPoint(x, y); \
               if (!hit || !(found.contains(hit) || hit.closest('label')?.control === found)) return null; \
               window.wasClicked = false; \
               found.addEventListener('click', () => {{ window.wasClicked = true; }}, {{capture: true, once: true}}); \
               return [x, y]; \
             }})()"
        );
        let start = Instant::now();
        loop {
            let found = self.eval(&middle);
            if let [x, y] = [0, 1].map(|index| found[index].as_f64())
                && let (Some(x), Some(y)) = (x, y)
            {
                self.tab.click_point(Point { x, y }).unwrap();
                // What came onto the page in between may have moved it away from under the mouse.
                if self.eval("window.wasClicked") != false {
                    return;
                }
            }
            assert!(start.elapsed() < DEADLINE, "{selector} could not be clicked within {DEADLINE:?}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Types into a field, in place of what is in it.
    #[track_caller]
    pub fn fill(&self, selector: &str, text: &str) {
        self.click(selector);
        self.eval(&format!("document.querySelector({}).select?.()", quoted(selector)));
        self.tab.press_key("Delete").unwrap();
        self.tab.type_str(text).unwrap();
        let typed = format!("document.querySelector({}).value === {}", quoted(selector), quoted(text));
        self.wait_for(&format!("{selector} holds {text:?}"), &typed);
    }

    /// Chooses an option of a list by its value.
    #[track_caller]
    pub fn choose(&self, selector: &str, value: &str) {
        let (selector_js, value_js) = (quoted(selector), quoted(value));
        let has_it = format!(
            "[...(document.querySelector({selector_js})?.options ?? [])].some((option) => option.value === {value_js})"
        );
        self.wait_for(&format!("{selector} offers {value:?}"), &has_it);
        self.eval(&format!(
            "(() => {{ const list = document.querySelector({selector_js}); list.value = {value_js}; \
             list.dispatchEvent(new Event('input', {{bubbles: true}})); \
             list.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
        ));
    }

    /// Gives a file to a field for files.
    #[track_caller]
    pub fn give_file(&self, selector: &str, file: &Path) {
        let path = file.to_str().unwrap();
        self.tab.wait_for_element(selector).unwrap().set_input_files(&[path]).unwrap();
    }

    /// Presses a key, by its name in the browser's events.
    #[track_caller]
    pub fn press(&self, key: &str) {
        self.tab.press_key(key).unwrap();
    }

    /// Waits until nothing moves any more and two frames are drawn, for a picture.
    #[track_caller]
    pub fn settle(&self) {
        self.eval(
            "Promise.all(document.getAnimations().filter((one) => one.effect?.getTiming().iterations !== Infinity) \
             .map((one) => one.finished.catch(() => null))) \
             .then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true)))))",
        );
        self.wait_until_gone(".toast");
    }

    /// Writes what is shown into a PNG file.
    #[track_caller]
    pub fn screenshot(&self, file: &Path) {
        let format = PageDomain::CaptureScreenshotFormatOption::Png;
        fs::write(file, self.tab.capture_screenshot(format, None, None, true).unwrap()).unwrap();
    }

    /// Forgets what the console has said so far: for a test that provokes a refusal, which browsers report there.
    pub fn forget_complaints(&self) {
        self.noted.lock().complaints.clear();
    }

    /// Checks that the console had nothing to complain of, that nothing was fetched from anywhere but the bridge, and
    /// that the page is not wider than its window.
    ///
    /// # Panics
    /// Naming what is wrong.
    #[track_caller]
    pub fn assert_quiet(&self, bridge: &str) {
        let noted = self.noted.lock();
        assert!(noted.complaints.is_empty(), "the console complains: {:#?}", noted.complaints);
        let is_foreign = |url: &&String| {
            !url.starts_with(bridge) && !["data:", "blob:", "about:"].iter().any(|scheme| url.starts_with(scheme))
        };
        let foreign: Vec<&String> = noted.fetched.iter().filter(is_foreign).collect();
        assert!(foreign.is_empty(), "fetched from elsewhere: {foreign:?}");
        drop(noted);
        self.assert_fits();
    }

    /// Checks that the page can be read without scrolling it sideways.
    #[track_caller]
    pub fn assert_fits(&self) {
        let widths = self.eval("[document.documentElement.scrollWidth, document.documentElement.clientWidth]");
        let [content, window] = [0, 1].map(|index| widths[index].as_u64().unwrap());
        assert!(content <= window, "the page is {content} pixels wide in a window of {window}");
    }

    #[track_caller]
    fn call<C>(&self, method: C) -> C::ReturnObject
    where
        C: headless_chrome::protocol::cdp::types::Method + serde::Serialize + std::fmt::Debug,
    {
        self.tab.call_method(method).unwrap()
    }
}

impl Drop for Scratch {
    /// The processes of a browser that was killed write for a moment yet.
    fn drop(&mut self) {
        let begin = Instant::now();
        while fs::remove_dir_all(self.0.path()).is_err() && self.0.path().exists() && begin.elapsed() < DEADLINE {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The installed browser, if there is one: `BANK_BROWSER`, or the first of the usual names on the path.
#[must_use]
pub fn find_browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("BANK_BROWSER") {
        return Some(PathBuf::from(named)).filter(|path| path.exists());
    }
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let candidates = BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let mac = PathBuf::from("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome");
    candidates.chain([mac]).find(|path| path.exists())
}

fn note(noted: &Mutex<Noted>, event: &Event) {
    match event {
        Event::LogEntryAdded(added) => {
            let entry = &added.params.entry;
            let level = format!("{:?}", entry.level);
            if level.contains("Error") || level.contains("Warning") {
                noted.lock().complaints.push(format!("{level}: {} ({:?})", entry.text, entry.url));
            }
        }
        Event::RuntimeExceptionThrown(thrown) => {
            noted.lock().complaints.push(format!("{:?}", thrown.params.exception_details));
        }
        Event::RuntimeConsoleAPICalled(called) => {
            let level = format!("{:?}", called.params.Type);
            if ["Error", "Warning", "Assert"].contains(&level.as_str()) {
                noted.lock().complaints.push(format!("console.{level}: {:?}", called.params.args));
            }
        }
        Event::NetworkRequestWillBeSent(request) => noted.lock().fetched.push(request.params.request.url.clone()),
        // The events are the browser's; it has hundreds.
        _ => {}
    }
}

/// An expression that is true when an element is there and takes up room.
fn visible(selector: &str) -> String {
    format!("[...document.querySelectorAll({})].some((found) => found.getClientRects().length > 0)", quoted(selector))
}

/// Text as a literal of JavaScript.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
