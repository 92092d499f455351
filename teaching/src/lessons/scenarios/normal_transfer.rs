//! Nothing goes wrong: what is on which disk before what is sent, and where the commit point is.

use super::{Beat, Scenario};
use crate::lessons::limits::AMOUNT;
use crate::lessons::scene::{Scene, Where};

pub static SCENARIO: Scenario = Scenario {
    name: "normal-transfer",
    title: "A transfer, message by message",
    teaches: "What each message of two-phase commit is for, and at which instant the transfer is decided.",
    beats: &[
        Beat::tell(Scene::opening),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                scene.begin(AMOUNT)?;
                Ok(format!(
                    "A client asks {payer} to send Rs {AMOUNT} to {receiver}. {payer} wrote to its disk what is to be \
                     done, and asks {receiver} to prepare. The prepare is on the wire."
                ))
            },
            "Who holds the money now?",
            |scene| {
                let payer = scene.payer.branch.clone();
                let table = scene.money_is(Where::Held)?;
                Ok(format!(
                    "{payer} does. The balance is untouched, but Rs {AMOUNT} of it are on hold: nobody else can spend \
                     them.\n\n{table}"
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                scene.deliver(&receiver, "prepare")?;
                scene.arrives(&payer, "vote yes")?;
                Ok(format!(
                    "{receiver} received the prepare, reserved room in the account, forced \"prepared\" to its disk, and \
                     only then voted yes. The vote is on the wire."
                ))
            },
            "May {receiver} still change its mind?",
            |scene| {
                let receiver = scene.receiver.branch.clone();
                scene.is_in_doubt(&receiver)?;
                Ok(format!(
                    "No. With its yes {receiver} gave up the right to decide. It lists the transfer as prepared: in \
                     doubt until the coordinator tells the outcome."
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                scene.deliver(&payer, "vote yes")?;
                scene.arrives(&receiver, "commit")?;
                Ok(format!(
                    "All have voted yes. {payer} forced the decision to its disk and took the money from the payer in \
                     the same write. The decision is on the wire."
                ))
            },
            "{receiver} has not heard the decision. Is the transfer done?",
            |scene| {
                let payer = scene.payer.branch.clone();
                scene.outcome_is(&payer, "committed")?;
                let table = scene.money_is(Where::OnItsWay)?;
                Ok(format!(
                    "Yes. The write at {payer} was the commit point: from that instant it is committed, whatever fails. \
                     The money is on its way, and the books say so.\n\n{table}"
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                scene.deliver(&receiver, "commit")?;
                scene.arrives(&payer, "acknowledged")?;
                let table = scene.money_is(Where::Arrived)?;
                Ok(format!("{receiver} paid the receiver, forced that to its disk, and acknowledges.\n\n{table}"))
            },
            "What is the acknowledgement good for, now that all is paid?",
            |scene| {
                let payer = scene.payer.branch.clone();
                scene.listed(&payer, "delivering")?;
                Ok(format!(
                    "Until it comes {payer} must keep the decision and send it again and again: it lists the transfer \
                     as delivering."
                ))
            },
        ),
        Beat::tell(|scene| {
            let payer = scene.payer.branch.clone();
            scene.deliver(&payer, "acknowledged")?;
            let told = scene.told()?;
            let table = scene.money_is(Where::Arrived)?;
            let closing = scene.closing()?;
            Ok(format!("{payer} may forget the transfer, and tells the client: {told}.\n\n{table}\n\n{closing}"))
        }),
    ],
};
