//! One payer, two receivers in two branches: one has heard the decision, the other has not, and the coordinator dies.

use super::{Beat, Scenario};
use crate::lessons::failure::Failure;
use crate::lessons::limits::SHARES;
use crate::lessons::scene::{Party, Payer, Scene};

pub static SCENARIO: Scenario = Scenario {
    name: "one-hears-of-it-first",
    title: "Three branches, and one hears of it first",
    teaches: "Decided is at one instant, heard at each branch at its own: who has not heard must wait.",
    beats: &[
        Beat::tell(Scene::opening_of_three),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                let third = scene.third()?;
                scene.begin_split(SHARES, third.account.get())?;
                for party in scene.receivers_in_order()? {
                    scene.deliver(&party.branch, "prepare")?;
                }
                for from in scene.receivers_in_order()? {
                    scene.deliver_from(&payer, "vote yes", &from.branch)?;
                }
                scene.arrives(&receiver, "commit")?;
                scene.arrives(&third.branch, "commit")?;
                let [first, second] = scene.receivers_in_order()?;
                scene.deliver(&first.branch, "commit")?;
                scene.remember_first(&first);
                let is_paid = only(scene, &first);
                let table = scene.three_are(SHARES, Payer::Taken, is_paid)?;
                Ok(format!(
                    "All have voted yes, and {payer} has decided: commit. {} has heard it and paid; to {} the decision is \
                     still on the wire.\n\n{table}",
                    first.branch, second.branch
                ))
            },
            "One is paid, the other not. Is that all or nothing?",
            |scene| {
                let payer = scene.payer.branch.clone();
                let [_, second] = scene.first_and_second()?;
                scene.outcome_is(&payer, "committed")?;
                scene.is_in_doubt(&second.branch)?;
                Ok(format!(
                    "Yes. It was decided for both at one instant, on {payer}'s disk. {} does not know it yet: it is in \
                     doubt, and its part stands in the books as on its way.",
                    second.branch
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let payer = scene.payer.branch.clone();
                let [_, second] = scene.first_and_second()?;
                scene.kill(&payer)?;
                scene.a_minute_passes(&second.branch)?;
                scene.is_in_doubt(&second.branch)?;
                Ok(format!(
                    "Now {payer} is killed. A minute passes at {}, which asks {payer} again and again and hears nothing.",
                    second.branch
                ))
            },
            "The other receiver knows the outcome. Why does the one in doubt not ask it?",
            |scene| {
                let payer = scene.payer.branch.clone();
                let [first, second] = scene.first_and_second()?;
                scene.outcome_is(&first.branch, "committed")?;
                Ok(format!(
                    "It could, and there are protocols that do; {} would answer: committed. Ours asks the coordinator alone, \
                     as it is simple and always right: {} blocks its promise and nothing else, until {payer} is back.",
                    first.branch, second.branch
                ))
            },
        ),
        Beat::tell(|scene| {
            let payer = scene.payer.branch.clone();
            let [first, second] = scene.first_and_second()?;
            scene.restart(&payer)?;
            scene.pass_time_until(&payer, &second.branch, "commit")?;
            scene.deliver(&second.branch, "commit")?;
            let table = scene.three_are(SHARES, Payer::Taken, [true, true])?;
            let closing = scene.closing()?;
            Ok(format!(
                "{payer} was started again, found its decision and sends it again: to {}, which pays, and to {}, which has \
                 paid and says so once more.\n\n{table}\n\n{closing}",
                second.branch, first.branch
            ))
        }),
    ],
};

fn only(scene: &Scene, party: &Party) -> [bool; 2] {
    let mut is_paid = [false, false];
    is_paid[scene.place_of(party)] = true;
    is_paid
}

impl Scene {
    /// The one who heard first, and the other.
    fn first_and_second(&self) -> Result<[Party; 2], Failure> {
        let [receiver, third] = [self.receiver.clone(), self.third()?];
        Ok(if self.first.as_ref() == Some(&third) { [third, receiver] } else { [receiver, third] })
    }

    fn remember_first(&mut self, party: &Party) {
        self.first = Some(party.clone());
    }
}
