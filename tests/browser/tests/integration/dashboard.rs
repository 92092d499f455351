//! What people do at the dashboard, in a real browser on the demo's bank: at a projector's size and on a phone.

use browser_tests::{Hall, PHONE, PROJECTOR, Page};

#[test]
fn an_administrator_opens_an_account_and_moves_money_on_a_projector() {
    open_an_account_and_move_money(PROJECTOR);
}

#[test]
fn an_administrator_opens_an_account_and_moves_money_on_a_phone() {
    open_an_account_and_move_money(PHONE);
}

fn open_an_account_and_move_money(size: (u32, u32)) {
    let (hall, page) = Hall::with_administrator(size);
    let before = page.text("[data-test=money-total]");
    page.assert_fits();

    page.show("accounts");
    page.choose("#accounts-branch", "Delhi");
    page.click("#open-account");
    page.choose("#open-branch", "Delhi");
    page.fill("#open-name", "Nadia Khan");
    page.fill("#open-balance", "500.25");
    page.click("#open-submit");
    page.wait_for_text(".toast", "is open at Delhi");
    page.wait_for_text("[data-test=accounts-table]", "Nadia Khan");
    page.assert_fits();

    page.show("operate");
    page.choose("#deposit-branch", "Mumbai");
    page.fill("#deposit-account", "1001");
    page.fill("#deposit-amount", "99.75");
    page.click("#deposit-submit");
    page.wait_for_element("[data-test=deposit-done]");
    page.choose("#transfer-from-branch", "Mumbai");
    page.fill("#transfer-from-account", "1001");
    page.choose("#transfer-to-branch", "Pune");
    page.fill("#transfer-to-account", "1002");
    page.fill("#transfer-amount", "250.50");
    page.click("#transfer-submit");
    page.wait_for_element("[data-test=transfer-done]");
    page.assert_fits();

    // 500.25 and 99.75 were paid in; the transfer moved nothing of the whole.
    let total = paise(&before) + 60_000;
    page.show("bank");
    page.wait_for_text("[data-test=money-total]", &rupees(total));
    page.wait_for_text("[data-test=verdict]", "agree");
    page.show("transactions");
    page.wait_for_text("[data-test=transactions-table]", "250.50");
    page.show("doubt");
    page.wait_for_element("[data-test=doubt-summary]");
    page.assert_quiet(hall.url());
}

#[test]
fn more_tabs_than_a_browser_has_connections_share_one_stream() {
    const STREAMS: &str = "fetch('/metrics').then((got) => got.text()).then((text) => \
        Number(/^bank_bridge_event_streams (\\d+)/m.exec(text)[1]))";
    let (hall, page) = Hall::with_administrator(PROJECTOR);
    let tabs = page.more_tabs(8, hall.url(), "[data-test=money-total]");
    assert_eq!(page.eval(STREAMS), 1);
    let last = tabs.last().unwrap();
    last.wait_for_element("[data-test=nav-transactions]").unwrap().click().unwrap();
    last.wait_for_element("[data-test=transactions-table]").unwrap();
}

#[test]
fn a_wrong_amount_and_a_wrong_password_are_said_in_words() {
    let hall = Hall::open();
    let page = hall.visitor(PROJECTOR);
    page.sign_in("Mumbai", "1001", "nonsense");
    page.wait_for_text("#signin-result", "password");
    page.sign_in("Mumbai", "1001", "1001");
    page.wait_for_element("[data-test=own-balance]");
    // Browsers write every refusal of a server into their console.
    page.forget_complaints();
    page.show("operate");
    page.fill("#withdraw-amount", "12.345");
    page.click("#withdraw-submit");
    page.wait_for_element("#withdraw-amount-error");
    page.fill("#withdraw-amount", "5000000");
    page.click("#withdraw-submit");
    page.wait_for_text("[data-test=withdraw-failed]", "Insufficient funds");
}

#[test]
fn a_customer_sees_and_moves_the_own_account_alone() {
    let hall = Hall::open();
    let page = hall.customer("Delhi", "1001");
    page.wait_for_text("[data-test=own-balance]", "1,000.00");
    for view in ["accounts", "doubt", "lab"] {
        assert_eq!(page.count(&format!("[data-test=nav-{view}]")), 0, "{view} is for the administrator");
    }
    page.show("operate");
    page.fill("#withdraw-amount", "10");
    page.click("#withdraw-submit");
    page.wait_for_element("[data-test=withdraw-done]");
    page.show("mine");
    page.wait_for_text("[data-test=own-balance]", "990.00");
    page.assert_quiet(hall.url());
    // The page would not ask for it, so what follows asks as the page's own session can.
    let ask = |path: &str, body: &str| {
        page.eval(&format!(
            "fetch('/session').then((answer) => answer.json()).then(({{result}}) => fetch('{path}', {{method: 'POST', \
             headers: {{'Content-Type': 'application/json', 'X-CSRF-Token': result.csrf}}, body: {}}})) \
             .then((answer) => answer.status)",
            serde_json::Value::from(body)
        ))
    };
    assert_eq!(ask("/balance", r#"{"branch":"Delhi","account":"1001"}"#), 200);
    for (path, body) in [
        ("/balance", r#"{"branch":"Delhi","account":"1002"}"#),
        ("/balance", r#"{"branch":"Mumbai","account":"1001"}"#),
        ("/withdraw", r#"{"branch":"Delhi","account":"1002","amount":1}"#),
        (
            "/transfer",
            r#"{"src_branch":"Mumbai","src_account":"1001","dest_branch":"Delhi","dest_account":"1001","amount":1}"#,
        ),
        ("/get_logs", r#"{"branch":"Delhi","account":"1002"}"#),
        ("/close_account", r#"{"branch":"Delhi","account":"1002"}"#),
        ("/teaching/Delhi/crash", r#"{"at":"now"}"#),
    ] {
        assert_eq!(ask(path, body), 403, "{path} {body}");
    }
}

#[test]
fn the_page_says_when_the_bridge_is_gone() {
    let (mut hall, page) = Hall::with_administrator(PROJECTOR);
    assert!(!shown(&page, "#connection-banner"));
    hall.end();
    page.wait_for_element("#connection-banner");
}

#[test]
fn every_view_can_be_read_in_the_dark_and_with_large_text_and_by_keys() {
    let (hall, page) = Hall::with_administrator(PHONE);
    page.prefer_dark(true);
    while page.count("[data-test=text-larger]:not(:disabled)") > 0 {
        page.click("[data-test=text-larger]");
    }
    for (key, heading) in [("2", "Accounts"), ("3", "Operate"), ("4", "Transactions"), ("5", "doubt"), ("6", "lab")] {
        page.press(key);
        page.wait_for_text("main h1", heading);
        page.assert_fits();
    }
    page.assert_quiet(hall.url());
}

fn shown(page: &Page, selector: &str) -> bool {
    page.eval(&format!("document.querySelector('{selector}')?.getClientRects().length > 0")) == true
}

/// `Rs 6,000.00` in paise.
fn paise(text: &str) -> u64 {
    text.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// Paise as the page writes them, up to 99,999.99 rupees.
fn rupees(paise: u64) -> String {
    let (whole, part) = (paise / 100, paise % 100);
    assert!(whole < 100_000, "lakhs have a comma of their own");
    if whole < 1_000 {
        format!("{whole}.{part:02}")
    } else {
        format!("{},{:03}.{part:02}", whole / 1_000, whole % 1_000)
    }
}
