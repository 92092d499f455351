//! The older systems' rules on a scratch bank, and after each what this bank does in the same spot.
//!
//! Whatever is told of the scratch bank is read from its files.

use protocol::Money;

use super::double_spend_race::{most_of_it, race};
use super::{Beat, Scenario};
use crate::lessons::failure::Failure;
use crate::lessons::limits::AMOUNT;
use crate::lessons::old_way::OldWay;
use crate::lessons::scene::{Scene, Where, fresh_id};

pub static SCENARIO: Scenario = Scenario {
    name: "the-old-way",
    title: "The old way, and how money vanishes",
    teaches: "What goes wrong without holds, records on disk, request ids and exact amounts.",
    beats: &[
        Beat::tell(introduce),
        Beat::ask(crash_between_commits, "Old-Delhi runs again. Who holds the money now?", nobody_holds_it),
        Beat::ask(
            our_crash,
            "The same spot in our bank: {receiver} is dead too, and {payer} has committed. Is the money lost?",
            our_recovery,
        ),
        Beat::ask(
            prepare_twice,
            "Both were prepared, and both branches said yes. What will the payer have after both commits?",
            spend_twice,
        ),
        Beat::ask(our_race_begins, "The same in our bank: what does the second client get?", our_race_ends),
        Beat::ask(lose_an_answer, "Rs 100.00 were handed over once. What is on the account?", our_repeated_deposit),
        Beat::ask(
            |_| Ok("Somebody pays 10 paise into an empty account of the old bank, ten times.".into()),
            "How much is 10 times 0.10?",
            ten_times_ten_paise,
        ),
        Beat::tell(sum_up),
    ],
};

/// What the retried deposit pays in.
const CASH: Money = Money::from_rupees(100);
/// What is wanted twice from the old bank: more than half of what is there.
const TOO_MUCH_TWICE: Money = Money::from_rupees(600);
/// How often ten paise are paid in.
const TIMES: u32 = 10;

fn introduce(scene: &mut Scene) -> Result<String, Failure> {
    let opening = scene.opening()?;
    let old = OldWay::open()?;
    let text = format!(
        "Old-Mumbai and Old-Delhi are scratch branches with files in {}. They keep the rules of the older systems: \
         balances are floats, a prepare reserves nothing and stays in memory, no decision is recorded, a restart drops \
         what was prepared.\n\n{}\n\nBeside them our bank. {opening}",
        old.folder().display(),
        old.money_table()?
    );
    scene.old_way = Some(old);
    Ok(text)
}

fn crash_between_commits(scene: &mut Scene) -> Result<String, Failure> {
    let (transfer, (before, after)) = on_the_old_bank(scene, |old| {
        let transfer = old.prepare(AMOUNT)?;
        old.commit_payer(&transfer)?;
        let prepared = old.crash_receiver(&transfer)?;
        Ok((transfer, prepared))
    })?;
    scene.show_foreign(Some(transfer.txid.clone()));
    scene.old_transfers = vec![transfer];
    Ok(format!(
        "Rs {AMOUNT} from Old-Mumbai to Old-Delhi: both prepared, both said yes. Old-Mumbai commits and writes its file. \
         Before its turn Old-Delhi crashes, and is started again. Prepared there before the crash: {before}; now: {after}."
    ))
}

fn nobody_holds_it(scene: &mut Scene) -> Result<String, Failure> {
    let transfers = std::mem::take(&mut scene.old_transfers);
    let (said, table) = on_the_old_bank(scene, |old| {
        let said: Vec<_> = transfers.iter().map(|transfer| old.commit_receiver(transfer)).collect();
        Ok((said, old.money_table()?))
    })?;
    match said.as_slice() {
        [Some(refusal)] => Ok(format!(
            "Nobody. Told to commit, Old-Delhi says \"{refusal}\". The payer has paid, the receiver has nothing, and \
             nobody knows.\n\n{table}"
        )),
        _ => Err(Failure::claim(format!("Old-Delhi should have forgotten the transfer, and has not.\n{table}"))),
    }
}

fn our_crash(scene: &mut Scene) -> Result<String, Failure> {
    let (payer, receiver) = scene.names();
    scene.begin(AMOUNT)?;
    scene.decide()?;
    scene.kill(&receiver)?;
    scene.outcome_is(&payer, "committed")?;
    Ok(format!(
        "Now {payer} and {receiver}. Rs {AMOUNT}: both prepared, both said yes. {payer} commits. Before it hears of it \
         {receiver} is killed."
    ))
}

fn our_recovery(scene: &mut Scene) -> Result<String, Failure> {
    let (payer, receiver) = scene.names();
    scene.restart(&receiver)?;
    scene.is_in_doubt(&receiver)?;
    scene.pass_time_until(&payer, &receiver, "commit")?;
    scene.complete()?;
    let table = scene.money_is(Where::Arrived)?;
    Ok(format!(
        "No. {receiver} was started again and found its promise on its disk; {payer} had the decision on its own, and sent \
         it again.\n\n{table}"
    ))
}

fn prepare_twice(scene: &mut Scene) -> Result<String, Failure> {
    let (transfers, balance) = on_the_old_bank(scene, |old| {
        let balance = old.payer()?;
        Ok((vec![old.prepare(TOO_MUCH_TWICE)?, old.prepare(TOO_MUCH_TWICE)?], balance))
    })?;
    scene.show_foreign(transfers.last().map(|transfer| transfer.txid.clone()));
    scene.old_transfers = transfers;
    Ok(format!(
        "Old-Mumbai again. The payer has Rs {balance}. Two clients send Rs {TOO_MUCH_TWICE} each from that account at \
         the same time."
    ))
}

fn spend_twice(scene: &mut Scene) -> Result<String, Failure> {
    let transfers = std::mem::take(&mut scene.old_transfers);
    let (refusals, balance, table) = on_the_old_bank(scene, |old| {
        let mut refusals = Vec::new();
        for transfer in &transfers {
            old.commit_payer(transfer)?;
            refusals.extend(old.commit_receiver(transfer));
        }
        Ok((refusals, old.payer()?, old.money_table()?))
    })?;
    if !refusals.is_empty() || balance >= crate::lessons::old_way::Rupees::ZERO {
        return Err(Failure::claim(format!("the old bank should have paid both, and has not.\n{table}")));
    }
    Ok(format!("Rs {balance}. Both were paid: the same money was spent twice.\n\n{table}"))
}

fn our_race_begins(scene: &mut Scene) -> Result<String, Failure> {
    let payer = scene.payer.text();
    let paid_in = scene.fund()?;
    let amount = most_of_it(scene)?;
    scene.begin(amount)?;
    Ok(format!(
        "{paid_in}The first client sends Rs {amount} from {payer}; a second one asks for the same before that has come."
    ))
}

fn our_race_ends(scene: &mut Scene) -> Result<String, Failure> {
    let refusal = race(scene)?;
    scene.money_is(Where::Held)?;
    scene.decide()?;
    scene.complete()?;
    let table = scene.money_is(Where::Arrived)?;
    Ok(format!("\"{refusal}\". The first one's money is on hold until it has left.\n\n{table}"))
}

fn lose_an_answer(scene: &mut Scene) -> Result<String, Failure> {
    let (before, _) = on_the_old_bank(scene, |old| old.deposit_retried(CASH))?;
    Ok(format!(
        "At Old-Delhi a customer with Rs {before} pays in Rs {CASH} in cash. The answer is lost on the way back, so the \
         counter sends the request again."
    ))
}

fn our_repeated_deposit(scene: &mut Scene) -> Result<String, Failure> {
    let table = on_the_old_bank(scene, |old| old.money_table())?;
    let (party, id) = (scene.receiver.clone(), fresh_id("cash"));
    let before = scene.balance(&party)?.balance;
    let once = scene.pay_in(&party, CASH, &id)?;
    let again = scene.pay_in(&party, CASH, &id)?;
    let now = scene.balance(&party)?.balance;
    if before.checked_add(CASH) != Some(now) || once != again {
        return Err(Failure::claim(format!(
            "{} should have Rs {before} and {CASH} more after the repeated deposit; it has Rs {now}",
            party.text()
        )));
    }
    Ok(format!(
        "Both times it was paid in: money is made.\n\n{table}\n\nOur bank, the same request twice under one request id: \
         {} had Rs {before}, both answers say Rs {once}, and it has Rs {now}.",
        party.text()
    ))
}

fn ten_times_ten_paise(scene: &mut Scene) -> Result<String, Failure> {
    let ten_paise = Money::from_paise(10).ok_or_else(|| Failure::claim("ten paise are an amount"))?;
    let float = on_the_old_bank(scene, |old| old.deposit_often(ten_paise, TIMES))?;
    let party = scene.receiver.clone();
    let before = scene.balance(&party)?.balance;
    for _ in 0..TIMES {
        scene.pay_in(&party, ten_paise, &fresh_id("paise"))?;
    }
    let now = scene.balance(&party)?.balance;
    if before.checked_add(Money::from_rupees(1)) != Some(now) {
        return Err(Failure::claim(format!("{} had Rs {before} and has Rs {now}", party.text())));
    }
    Ok(format!(
        "Rs {float} in the old bank: 0.10 is no binary fraction. Our bank counts paise as whole numbers: {} had \
         Rs {before} and has Rs {now}.",
        party.text()
    ))
}

fn sum_up(scene: &mut Scene) -> Result<String, Failure> {
    let table = on_the_old_bank(scene, |old| old.money_table())?;
    let closing = scene.closing()?;
    let ours = scene.look()?;
    Ok(format!("The old bank at the end:\n\n{table}\n\nOurs, after the same:\n\n{ours}\n\n{closing}"))
}

/// Does something at the scratch bank, and hands on what happened.
fn on_the_old_bank<T>(scene: &mut Scene, act: impl FnOnce(&mut OldWay) -> Result<T, Failure>) -> Result<T, Failure> {
    let old = scene.old_way.as_mut().ok_or_else(|| Failure::claim("the scratch bank is closed"))?;
    let done = act(old);
    let events = old.take_events();
    if !events.is_empty() {
        scene.record(events);
    }
    done
}
