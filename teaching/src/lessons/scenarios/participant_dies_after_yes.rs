//! The receiver's branch is killed right after its yes.

use super::{Beat, Scenario};
use crate::lessons::limits::AMOUNT;
use crate::lessons::scene::{Scene, Where};

pub static SCENARIO: Scenario = Scenario {
    name: "participant-dies-after-yes",
    title: "A branch dies after it said yes",
    teaches: "A yes is a promise on disk: it outlives the process, so the others need not wait to decide.",
    beats: &[
        Beat::tell(Scene::opening),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                scene.begin(AMOUNT)?;
                scene.deliver_and_die(&receiver, "prepare", "after-vote")?;
                scene.arrives(&payer, "vote yes")?;
                Ok(format!(
                    "{receiver} prepared, voted yes, and was killed that instant. Its vote has made it out and waits at \
                     {payer}."
                ))
            },
            "{receiver} is dead. May {payer} commit?",
            |scene| {
                let (payer, receiver) = scene.names();
                scene.deliver(&payer, "vote yes")?;
                scene.outcome_is(&payer, "committed")?;
                scene.listed(&payer, "delivering")?;
                Ok(format!(
                    "Yes, and it just did. {receiver} forced \"prepared\" to its disk before it voted, so it will be able \
                     to pay. {payer} keeps the decision and delivers it when {receiver} is back."
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let receiver = scene.receiver.branch.clone();
                Ok(format!("{receiver} must be started again."))
            },
            "What does {receiver} find on its disk, and what may it do with it?",
            |scene| {
                let receiver = scene.receiver.branch.clone();
                scene.restart(&receiver)?;
                scene.is_in_doubt(&receiver)?;
                let table = scene.money_is(Where::OnItsWay)?;
                Ok(format!(
                    "It found its promise: the transfer is prepared. Whether it was committed is not there, so {receiver} \
                     may neither pay nor give up. It has to hear it from the coordinator.\n\n{table}"
                ))
            },
        ),
        Beat::tell(|scene| {
            let (payer, receiver) = scene.names();
            scene.pass_time_until(&payer, &receiver, "commit")?;
            let told = scene.complete()?;
            let table = scene.money_is(Where::Arrived)?;
            let closing = scene.closing()?;
            Ok(format!(
                "{payer} sends the decision again, {receiver} pays and acknowledges, and the client is told: {told}.\n\n\
                 {table}\n\n{closing}"
            ))
        }),
    ],
};
