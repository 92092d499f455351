//! The lecture: transfers watched, stepped through, broken and mended in the 2PC lab, in a real browser.

use browser_tests::{Hall, PHONE, PROJECTOR, Page};

#[test]
fn a_transfer_is_drawn_to_its_end_on_a_projector() {
    a_transfer_is_drawn_to_its_end(PROJECTOR);
}

#[test]
fn a_transfer_is_drawn_to_its_end_on_a_phone() {
    a_transfer_is_drawn_to_its_end(PHONE);
}

fn a_transfer_is_drawn_to_its_end(size: (u32, u32)) {
    let (hall, page) = Hall::with_administrator(size);
    let before = page.text("[data-test=money-total]");
    page.show("lab");
    page.click("[data-test=start]");
    page.wait_for_text("[data-test=outcome]", "committed");
    for message in ["prepare", "vote yes", "commit", "acknowledged"] {
        assert_eq!(
            page.count(&format!(".lab-svg g.arrow[data-message='{message}'][data-fate=received]")),
            1,
            "{message}"
        );
    }
    page.wait_for_text("[data-test=state-Mumbai]", "committed");
    page.wait_for_text("[data-test=state-Delhi]", "committed");
    page.wait_for_text("[data-test=log-Mumbai]", "on disk");
    page.wait_for_text("[data-test=log-Delhi]", "on disk");
    // Back to before the commit point: the receiver is in doubt, and the money is held at the payer's.
    page.click("[data-test=first]");
    page.wait_for_text("[data-test=state-Delhi]", "not asked yet");
    while page.text("[data-test=state-Delhi]") != "in doubt" {
        let step = page.text("[data-test=step-count]");
        page.click("[data-test=forward]");
        page.wait_for(
            "the next step is shown",
            &format!("document.querySelector('[data-test=step-count]').innerText !== {step:?}"),
        );
    }
    assert!(page.text("[data-test=money-held]").contains("50.00"));
    page.click("[data-test=last]");
    assert!(page.text("[data-test=money-received]").contains("50.00"));
    page.show("bank");
    page.wait_for_text("[data-test=money-total]", &before);
    page.assert_quiet(hall.url());
}

#[test]
fn a_class_steps_through_a_transfer_and_loses_an_acknowledgement() {
    let (hall, page) = Hall::with_administrator(PROJECTOR);
    page.show("lab");
    page.click("[data-test=step-all]");
    page.click("[data-test=start]");
    for message in ["prepare", "vote yes", "commit"] {
        page.wait_for_text("[data-test=waiting]", message);
        page.click("[data-test=deliver-next]");
        page.wait_for_element(&format!(".lab-svg g.arrow[data-message='{message}'][data-fate=received]"));
    }
    page.wait_for_text("[data-test=waiting]", "acknowledged");
    page.click("[data-test=waiting] [data-test=drop]");
    page.wait_for_element(".lab-svg g.arrow[data-message='acknowledged'][data-fate=lost]");
    // The coordinator does not know; with the time it asks again, and is told again.
    page.click("[data-test=pass-2000]");
    page.wait_for_text("[data-test=waiting]", "commit");
    page.click("[data-test=step-all]");
    page.wait_for_text("[data-test=outcome]", "committed");
    page.wait_for_text("[data-test=start-outcome]", "50.00");
    // The box that was just ticked has the focus, and takes no more keys than it has use for.
    page.press("Home");
    page.wait_for("the lab is at the beginning", "document.querySelector('[data-test=slider]').value === '0'");
    page.press("ArrowRight");
    page.wait_for("the lab is one step further", "document.querySelector('[data-test=slider]').value === '1'");
    page.click("[data-test=slider]");
    page.press("1");
    page.wait_for_text("[data-test=verdict]", "agree");
    page.assert_quiet(hall.url());
}

#[test]
fn a_branch_that_crashes_in_the_middle_recovers_before_the_eyes_of_the_class() {
    let (_hall, page) = Hall::with_administrator(PROJECTOR);
    let before = page.text("[data-test=money-total]");
    page.arm_crash("Delhi", "after-vote");
    page.click("[data-test=start]");
    // Delhi has promised and is gone; Mumbai decides without it.
    page.wait_for_text("[data-test=state-Delhi]", "down");
    page.wait_for_text("[data-test=state-Mumbai]", "committed");
    page.wait_for_element("[data-test=faults-Delhi] [data-test=restart]");
    page.click("[data-test=faults-Delhi] [data-test=restart]");
    page.wait_for_text("[data-test=state-Delhi]", "committed");
    page.wait_for_text("[data-test=log-Delhi]", "found on disk");
    page.show("bank");
    page.wait_for_text("[data-test=money-total]", &before);
    page.wait_for_text("[data-test=verdict]", "agree");
    page.wait_for_text("[data-test=money-in-transit]", "0.00");
}

#[test]
fn a_transfer_in_doubt_is_settled_by_hand_with_a_reason() {
    let (_hall, page) = Hall::with_administrator(PROJECTOR);
    page.arm_crash("Mumbai", "before-decision");
    page.click("[data-test=start]");
    page.wait_for_text("[data-test=state-Mumbai]", "down");
    page.wait_for_text("[data-test=state-Delhi]", "in doubt");
    page.show("bank");
    page.wait_for("the chart shows it", &chart_says("In doubt: now 1 "));
    page.show("doubt");
    page.wait_for_text("[data-test=doubt-table]", "Mumbai");
    page.click("[data-test=doubt-table] [data-test^=resolve-]");
    page.click("#resolve-abort");
    page.fill("#resolve-reason", "Mumbai's machine is gone for good");
    page.click("#resolve-submit");
    page.wait_until_gone("#resolve-submit");
    page.show("lab");
    page.click("[data-test=faults-Mumbai] [data-test=restart]");
    page.wait_for_text("[data-test=state-Mumbai]", "aborted");
    page.show("bank");
    page.wait_for_text("[data-test=branch-Mumbai]", "up");
    page.wait_for_text("[data-test=verdict]", "agree");
    page.wait_for("nothing is in doubt any more", &chart_says("In doubt: now 0 "));
    page.reload();
    page.wait_for("a page that is opened now shows that something was", &chart_says("at most 1 in the last"));
}

/// Whether a chart's description for screen readers has this in it.
fn chart_says(text: &str) -> String {
    format!("[...document.querySelectorAll('.chart-canvas')].some((chart) => chart.ariaLabel?.includes('{text}'))")
}

#[test]
fn the_old_way_loses_money_and_ours_does_not() {
    let (hall, page) = Hall::with_administrator(PROJECTOR);
    let told = go_through(&page, "the-old-way");
    assert!(told.contains("lost"), "{told}");
    page.show("bank");
    // The lesson pays something in, to show what a retry makes of it. What was paid in is what is there.
    page.wait_for_text("[data-test=verdict]", "agree");
    let paid_in = page.text("[data-test=money-paid-in]");
    page.wait_for_text("[data-test=money-total]", &paid_in);
    page.assert_quiet(hall.url());
}

#[test]
fn a_scenario_asks_the_class_before_it_answers() {
    let (hall, page) = Hall::with_administrator(PROJECTOR);
    let told = go_through(&page, "lost-acknowledgement");
    assert!(told.contains('?'), "{told}");
    page.wait_for_text("[data-test=outcome]", "committed");
    page.show("bank");
    page.wait_for_text("[data-test=verdict]", "agree");
    page.assert_quiet(hall.url());
}

#[test]
fn a_lessons_address_repeats_its_very_order_of_messages() {
    const LESSON: &str = "one-hears-of-it-first";
    let hall = Hall::open();
    // Who hears of it first is the word before these.
    let first = |told: &str| {
        told.split(" has heard it").next().and_then(|before| before.rsplit(' ').next()).map(str::to_string)
    };
    let run = |seed: u64| {
        let page = hall.administrator(PROJECTOR);
        page.go_to(&format!("{}/#lab?scenario={LESSON}&seed={seed}", hall.url()));
        let told = go_through_what_is_shown(&page, LESSON);
        let is_named = format!("location.hash.includes('scenario={LESSON}&seed={seed}')");
        page.wait_for("the address names lesson and seed", &is_named);
        first(&told).unwrap()
    };
    let (one, other) = (run(2), run(6));
    assert_ne!(one, other);
    assert_eq!(run(2), one, "the same address");
}

/// Runs a scenario of the lab to its end and gives all that it said.
fn go_through(page: &Page, name: &str) -> String {
    page.show("lab");
    go_through_what_is_shown(page, name)
}

/// The same in the lab as it is shown already.
fn go_through_what_is_shown(page: &Page, name: &str) -> String {
    page.wait_for_element("[data-test=scenario-list] summary");
    if !page.eval("document.querySelector('[data-test=scenario-list]').open").as_bool().unwrap_or(true) {
        page.click("[data-test=scenario-list] summary");
    }
    page.click(&format!("[data-test=scenario-start-{name}]"));
    page.wait_for_element("[data-test=scenario-say]");
    // The list that was clicked on is below the lesson, and a page down.
    let is_seen = "(() => { const top = document.querySelector('[data-test=scenario-title]').getBoundingClientRect().top; \
                   return top >= 0 && top < innerHeight / 2; })()";
    page.wait_for("the beginning of the lesson is seen", is_seen);
    page.wait_for("Enter goes on", "document.activeElement?.matches('[data-test=scenario-next]')");
    let mut told = String::new();
    loop {
        page.wait_for_element("[data-test=scenario-say]");
        let shown = page.text("[data-test=scenario]");
        told += &shown;
        assert_eq!(page.count("[data-test=scenario-error]:not(:empty)"), 0, "{shown}");
        let is_over =
            "![...document.querySelectorAll('[data-test=scenario-next]')].some((next) => next.getClientRects().length)";
        if page.eval(is_over) == true {
            return told;
        }
        page.click("[data-test=scenario-next]");
        let changed = format!("document.querySelector('[data-test=scenario]')?.innerText !== {shown:?}");
        page.wait_for("the scenario goes on", &changed);
    }
}
