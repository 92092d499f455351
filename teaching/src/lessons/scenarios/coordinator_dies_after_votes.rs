//! The coordinator is killed when all votes are in: once before the decision is on its disk, once right after.

use super::{Beat, Scenario};
use crate::lessons::failure::Failure;
use crate::lessons::limits::AMOUNT;
use crate::lessons::scene::{Scene, Where};

pub static SCENARIO: Scenario = Scenario {
    name: "coordinator-dies-after-votes",
    title: "The coordinator dies after the votes",
    teaches: "Who voted yes must wait, however long: the two possible endings look the same from outside.",
    beats: &[
        Beat::tell(Scene::opening),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                die_at(scene, "before-decision")?;
                scene.is_in_doubt(&receiver)?;
                Ok(format!(
                    "{receiver} has voted yes on Rs {AMOUNT}. {payer}, the coordinator, got the vote and was killed before \
                     its decision was on disk. {receiver} hears nothing."
                ))
            },
            "May {receiver} give up after a while, or pay?",
            |scene| {
                let receiver = scene.receiver.branch.clone();
                scene.a_minute_passes(&receiver)?;
                scene.is_in_doubt(&receiver)?;
                Ok(format!(
                    "Neither. A minute has passed on {receiver}'s clock, it asked again and again, and it still is in \
                     doubt. The coordinator may have committed, or not: {receiver} can't see its disk."
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                scene.restart(&payer)?;
                scene.pass_time_until(&receiver, &payer, "inquiry")?;
                Ok(format!("{payer} was started again, and {receiver}'s inquiry waits there: how did it end?"))
            },
            "{payer} finds no decision on its disk. What does it answer?",
            |scene| {
                let (payer, receiver) = scene.names();
                scene.deliver(&payer, "inquiry")?;
                scene.deliver(&receiver, "abort")?;
                let table = scene.money_is(Where::AtHome)?;
                scene.outcome_is(&receiver, "aborted")?;
                Ok(format!(
                    "Aborted. What is not decided on disk was not decided: nobody can have been told otherwise. The hold \
                     is gone, and so is {receiver}'s doubt.\n\n{table}"
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                die_at(scene, "after-decision")?;
                scene.is_in_doubt(&receiver)?;
                Ok(format!(
                    "The same once more, but {payer} is killed an instant later: right after its decision was on disk, \
                     before anybody was told. {receiver} has voted yes and hears nothing."
                ))
            },
            "What is different now, seen from {receiver}?",
            |scene| {
                let receiver = scene.receiver.branch.clone();
                scene.a_minute_passes(&receiver)?;
                scene.is_in_doubt(&receiver)?;
                Ok(format!(
                    "Nothing at all. That is why {receiver} had to wait the first time: here, giving up would have been \
                     wrong."
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                scene.restart(&payer)?;
                scene.pass_time_until(&payer, &receiver, "commit")?;
                Ok(format!("{payer} was started again, read its disk, and has sent something to {receiver}."))
            },
            "What is it, and who holds the money?",
            |scene| {
                let payer = scene.payer.branch.clone();
                scene.outcome_is(&payer, "committed")?;
                let table = scene.money_is(Where::OnItsWay)?;
                Ok(format!(
                    "The decision to commit. It was on disk, with the money taken from the payer in the same write; so \
                     {payer} can't lose one without the other.\n\n{table}"
                ))
            },
        ),
        Beat::tell(|scene| {
            let (payer, receiver) = scene.names();
            scene.deliver(&receiver, "commit")?;
            scene.deliver(&payer, "acknowledged")?;
            let told = scene.told()?;
            let table = scene.money_is(Where::Arrived)?;
            let closing = scene.closing()?;
            Ok(format!(
                "{receiver} pays and acknowledges. The client was told {told}; it repeats its request under the same id \
                 and learns the outcome.\n\n{table}\n\n{closing}"
            ))
        }),
    ],
};

/// A transfer whose coordinator gets the vote and is killed at that point.
fn die_at(scene: &mut Scene, point: &str) -> Result<(), Failure> {
    let (payer, receiver) = scene.names();
    scene.step_mode()?;
    scene.begin(AMOUNT)?;
    scene.deliver(&receiver, "prepare")?;
    scene.arrives(&payer, "vote yes")?;
    scene.deliver_and_die(&payer, "vote yes", point)
}
