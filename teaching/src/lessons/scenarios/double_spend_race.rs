//! Two transfers want the same money at the same time.

use protocol::Money;
use serde_json::Value;

use super::{Beat, Scenario};
use crate::lessons::failure::Failure;
use crate::lessons::limits::AMOUNT;
use crate::lessons::scene::{Scene, Where};

pub static SCENARIO: Scenario = Scenario {
    name: "double-spend-race",
    title: "The same money, twice",
    teaches: "Money that is promised to one transfer is on hold, so a second one can't have it.",
    beats: &[
        Beat::tell(Scene::opening),
        Beat::ask(
            |scene| {
                let payer = scene.payer.text();
                let amount = most_of_it(scene)?;
                scene.begin(amount)?;
                let balance = scene.balance(&scene.payer)?.balance;
                Ok(format!(
                    "The first client sends Rs {amount} from {payer}, nearly all that is there. Its prepare is on the \
                     wire. The balance still is Rs {balance}. Now a second client asks for Rs {amount} from the same \
                     account."
                ))
            },
            "The balance would do. Does the second one get the money?",
            |scene| {
                let refusal = race(scene)?;
                let table = scene.money_is(Where::Held)?;
                Ok(format!(
                    "No, and it is told so at once: \"{refusal}\". What counts is what can be spent, the balance without \
                     what is on hold.\n\n{table}"
                ))
            },
        ),
        Beat::tell(|scene| {
            scene.decide()?;
            let told = scene.complete()?;
            let table = scene.money_is(Where::Arrived)?;
            let closing = scene.closing()?;
            Ok(format!("The first one goes on. Its client is told: {told}.\n\n{table}\n\n{closing}"))
        }),
    ],
};

/// So much that it can't be spent twice: what can be spent, less a bit.
pub fn most_of_it(scene: &Scene) -> Result<Money, Failure> {
    let available = scene.balance(&scene.payer)?.available;
    available.checked_sub(AMOUNT).ok_or_else(|| Failure::claim(format!("only Rs {available} can be spent")))
}

/// Asks for the amount of the transfer at hand once more, and gives the refusal.
pub fn race(scene: &Scene) -> Result<String, Failure> {
    match scene.ask_for_another(scene.amount())? {
        Err(failure) if failure.code == "insufficient_funds" => Ok(failure.text),
        Err(failure) => Err(Failure::claim(format!("the second transfer was refused, but because: {failure}"))),
        Ok(result) => {
            let txid = result.get("txid").and_then(Value::as_str).unwrap_or("of no name");
            Err(Failure::claim(format!("the second transfer, {txid}, got the money too")))
        }
    }
}
