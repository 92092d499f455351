//! One payer, two receivers in two branches, and one of the two can't be paid.

use super::{Beat, Scenario};
use crate::lessons::limits::{NO_ACCOUNT, SHARES};
use crate::lessons::scene::{Payer, Scene};

pub static SCENARIO: Scenario = Scenario {
    name: "one-of-three-says-no",
    title: "Three branches, and one says no",
    teaches: "All or nothing, however many take part: one no undoes every yes that was said before.",
    beats: &[
        Beat::tell(Scene::opening_of_three),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                let third = scene.third()?.branch;
                scene.begin_split(SHARES, NO_ACCOUNT)?;
                let [first, second] = scene.receivers_in_order()?;
                scene.deliver(&first.branch, "prepare")?;
                scene.deliver(&second.branch, "prepare")?;
                scene.arrives(&payer, "vote yes")?;
                scene.arrives(&payer, "vote no")?;
                let table = scene.three_are(SHARES, Payer::Held, [false, false])?;
                Ok(format!(
                    "A client asks {payer} to pay Rs {} at {receiver} and Rs {} at {third}, all or nothing. {} was asked \
                     first, then {}. {receiver} voted yes. {third} voted no: there is no account {NO_ACCOUNT}. Both votes \
                     are on the wire.\n\n{table}",
                    SHARES.each[0], SHARES.each[1], first.branch, second.branch
                ))
            },
            "{receiver} has promised and can't take it back. What becomes of its part?",
            |scene| {
                let (payer, receiver) = scene.names();
                scene.is_in_doubt(&receiver)?;
                let votes = scene.in_order("vote yes", "vote no");
                for vote in votes {
                    scene.deliver(&payer, vote)?;
                }
                scene.deliver(&receiver, "abort")?;
                scene.outcome_is(&receiver, "aborted")?;
                let table = scene.three_are(SHARES, Payer::Free, [false, false])?;
                Ok(format!(
                    "It is aborted. {} came first to {payer}; one no is enough, whenever it comes. A yes is a promise to \
                     commit if all do, so an abort breaks none.\n\n{table}",
                    if votes[0] == "vote no" { "The no" } else { "The yes" }
                ))
            },
        ),
        Beat::tell(|scene| {
            let told = scene.told_refusal()?;
            let closing = scene.closing()?;
            Ok(format!("The client is told: {told}. Nobody was paid a part.\n\n{closing}"))
        }),
    ],
};
