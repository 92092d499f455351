//! The network delivers the decision twice.

use super::{Beat, Scenario};
use crate::lessons::limits::AMOUNT;
use crate::lessons::scene::{Scene, Where};

pub static SCENARIO: Scenario = Scenario {
    name: "doubled-commit",
    title: "The decision comes twice",
    teaches: "A doubled message has its effect once, because the outcome is on disk with the money.",
    beats: &[
        Beat::tell(Scene::opening),
        Beat::ask(
            |scene| {
                let receiver = scene.receiver.branch.clone();
                scene.begin(AMOUNT)?;
                scene.decide()?;
                scene.double(&receiver, "commit")?;
                let table = scene.money_is(Where::Arrived)?;
                Ok(format!(
                    "Rs {AMOUNT} are committed. The network makes two of the one decision: {receiver} has received the \
                     first and paid, the second waits.\n\n{table}"
                ))
            },
            "The second one comes. How much will the receiver have?",
            |scene| {
                let (payer, receiver) = scene.names();
                scene.deliver(&payer, "acknowledged")?;
                scene.deliver(&receiver, "commit")?;
                // The second acknowledgement shows that the copy was received.
                scene.arrives(&payer, "acknowledged")?;
                let table = scene.money_is(Where::Arrived)?;
                Ok(format!(
                    "The same. In one write {receiver} paid and noted how this transfer ended; the copy finds the note. \
                     It is acknowledged like the first, because {receiver} can't know whether that came.\n\n{table}"
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let payer = scene.payer.branch.clone();
                let told = scene.told()?;
                Ok(format!("The first acknowledgement came, so {payer} told the client: {told}. The second one waits."))
            },
            "{payer} is done with this transfer. What does it do with another acknowledgement?",
            |scene| {
                let payer = scene.payer.branch.clone();
                scene.deliver(&payer, "acknowledged")?;
                scene.outcome_is(&payer, "committed")?;
                Ok("Nothing. Every message of the protocol may come late, twice, or never.".into())
            },
        ),
        Beat::tell(Scene::closing),
    ],
};
