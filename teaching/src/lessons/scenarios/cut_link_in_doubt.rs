//! Both branches live, and the link between them is cut after the vote.

use super::{Beat, Scenario};
use crate::lessons::failure::Failure;
use crate::lessons::limits::AMOUNT;
use crate::lessons::scene::{Scene, Where};

pub static SCENARIO: Scenario = Scenario {
    name: "cut-link-in-doubt",
    title: "The link is cut after the vote",
    teaches: "A cut link leaves a branch in doubt, and blocks the money of that one transfer alone.",
    beats: &[
        Beat::tell(Scene::opening),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                commit_behind_a_cut_link(scene)?;
                Ok(format!(
                    "{receiver} voted yes on Rs {AMOUNT}. The vote reached {payer}, then the link between the two was cut. \
                     Both branches run; neither hears the other."
                ))
            },
            "What does each of them know?",
            |scene| {
                let (payer, receiver) = scene.names();
                scene.outcome_is(&payer, "committed")?;
                scene.is_in_doubt(&receiver)?;
                let table = scene.money_is(Where::OnItsWay)?;
                Ok(format!(
                    "{payer} knows that it is committed, and can't say so. {receiver} knows only that it promised: it is \
                     in doubt.\n\n{table}"
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let receiver = scene.receiver.branch.clone();
                scene.a_minute_passes(&receiver)?;
                scene.is_in_doubt(&receiver)?;
                let before = scene.balance(&scene.receiver)?.balance;
                let after = scene.pay_in(&scene.receiver, AMOUNT, &crate::lessons::scene::fresh_id("cash"))?;
                scene.receiver_was_paid(AMOUNT);
                Ok(format!(
                    "A minute passes at {receiver}: it still waits. Meanwhile somebody pays Rs {AMOUNT} in cash into the \
                     very same account: from Rs {before} to Rs {after}."
                ))
            },
            "So what exactly is blocked while a branch is in doubt?",
            |scene| {
                let receiver = scene.receiver.branch.clone();
                scene.is_in_doubt(&receiver)?;
                Ok(format!(
                    "Only what this transfer has promised: here, room in the account and that the account stays open. \
                     {receiver} serves everybody else."
                ))
            },
        ),
        Beat::tell(|scene| {
            let (payer, receiver) = scene.names();
            scene.link(&receiver, &payer, "heal")?;
            scene.pass_time_until(&payer, &receiver, "commit")?;
            let told = scene.complete()?;
            let table = scene.money_is(Where::Arrived)?;
            let closing = scene.closing()?;
            Ok(format!(
                "The link is back. {payer} sends the decision again, {receiver} pays, and the client is told: {told}.\n\n\
                 {table}\n\n{closing}"
            ))
        }),
    ],
};

/// A transfer that is committed at the payer's branch while the link to the receiver's is cut.
pub fn commit_behind_a_cut_link(scene: &mut Scene) -> Result<(), Failure> {
    let (payer, receiver) = scene.names();
    scene.begin(AMOUNT)?;
    scene.deliver(&receiver, "prepare")?;
    scene.arrives(&payer, "vote yes")?;
    scene.link(&receiver, &payer, "cut")?;
    scene.deliver(&payer, "vote yes")?;
    scene.outcome_is(&payer, "committed")
}
