//! A person settles a transfer in doubt.

use super::cut_link_in_doubt::commit_behind_a_cut_link;
use super::{Beat, Scenario};
use crate::lessons::limits::AMOUNT;
use crate::lessons::scene::{Scene, Where};

pub static SCENARIO: Scenario = Scenario {
    name: "settled-by-hand",
    title: "Settled by hand",
    teaches: "When waiting is not possible a person decides, answers for it, and had better ask first.",
    beats: &[
        Beat::tell(Scene::opening),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                commit_behind_a_cut_link(scene)?;
                scene.is_in_doubt(&receiver)?;
                Ok(format!(
                    "{receiver} voted yes on Rs {AMOUNT}, then the link to {payer} was cut. {receiver} is in doubt, and the \
                     customer stands at the counter. The operator at {receiver} may settle it by hand."
                ))
            },
            "Commit or abort? What should the operator do first?",
            |scene| {
                let payer = scene.payer.branch.clone();
                scene.outcome_is(&payer, "committed")?;
                Ok(format!(
                    "Pick up the telephone. The books of {payer} say: committed. To guess \"abort\" here would have made \
                     Rs {AMOUNT} vanish for the customer, and the audit would report the difference for good."
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                scene.resolve(&receiver, "commit", &format!("{payer} says by telephone that it is committed"))?;
                let table = scene.money_is(Where::Arrived)?;
                Ok(format!(
                    "The operator settles it at {receiver}: commit, with the reason. The receiver is paid.\n\n{table}"
                ))
            },
            "The link comes back, and with it the decision. Is the receiver paid again?",
            |scene| {
                let (payer, receiver) = scene.names();
                scene.link(&receiver, &payer, "heal")?;
                scene.pass_time_until(&payer, &receiver, "commit")?;
                let told = scene.complete()?;
                let table = scene.money_is(Where::Arrived)?;
                Ok(format!(
                    "No. {receiver} notes that the coordinator confirms what was done by hand, and acknowledges. The \
                     client is told: {told}.\n\n{table}"
                ))
            },
        ),
        Beat::tell(Scene::closing),
    ],
};
