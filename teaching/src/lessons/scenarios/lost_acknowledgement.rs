//! The receiver is paid and says so, and nobody hears it: why a decision is repeated, and why that does no harm.

use super::{Beat, Scenario};
use crate::lessons::limits::AMOUNT;
use crate::lessons::scene::{Scene, Where};

pub static SCENARIO: Scenario = Scenario {
    name: "lost-acknowledgement",
    title: "The acknowledgement gets lost",
    teaches: "A decision is sent until it is acknowledged, and received twice it has its effect once.",
    beats: &[
        Beat::tell(Scene::opening),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                scene.begin(AMOUNT)?;
                scene.decide()?;
                scene.deliver(&receiver, "commit")?;
                scene.arrives(&payer, "acknowledged")?;
                scene.lose(&payer, "acknowledged")?;
                let table = scene.money_is(Where::Arrived)?;
                Ok(format!(
                    "Rs {AMOUNT} are committed, and {receiver} has paid the receiver. Its acknowledgement is lost on the \
                     way to {payer}.\n\n{table}"
                ))
            },
            "What does {payer} know now, and what must it do?",
            |scene| {
                let payer = scene.payer.branch.clone();
                scene.listed(&payer, "delivering")?;
                Ok("It can't tell a lost acknowledgement from a lost decision. It lists the transfer as delivering, and \
                    must send the decision again."
                    .into())
            },
        ),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                scene.pass_time_until(&payer, &receiver, "commit")?;
                Ok(format!(
                    "Some time goes by at {payer}. It sends the decision a second time; it waits at {receiver}."
                ))
            },
            "{receiver} has paid already. Will it pay twice?",
            |scene| {
                let (payer, receiver) = scene.names();
                scene.deliver(&receiver, "commit")?;
                scene.arrives(&payer, "acknowledged")?;
                let table = scene.money_is(Where::Arrived)?;
                Ok(format!(
                    "No. {receiver} has the outcome of this transfer on its disk: it does nothing and acknowledges once \
                     more.\n\n{table}"
                ))
            },
        ),
        Beat::tell(|scene| {
            let payer = scene.payer.branch.clone();
            scene.deliver(&payer, "acknowledged")?;
            let told = scene.told()?;
            let closing = scene.closing()?;
            Ok(format!("This time it comes. {payer} tells the client: {told}.\n\n{closing}"))
        }),
    ],
};
