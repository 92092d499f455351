//! The words with which a script moves and claims money between three branches: one account pays, two are paid.

use std::collections::BTreeSet;

use protocol::{BranchName, Money, Total, TxId};
use serde_json::json;

use super::{Party, Scene, wait};
use crate::lessons::failure::Failure;
use crate::lessons::limits::{ARRIVAL_DEADLINE, CLAIM_DEADLINE};
use crate::lessons::table::table;

/// What each receiver of a split is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// The receiver's, and the third party's.
    pub each: [Money; 2],
}

impl Shares {
    fn sum(self) -> Option<Money> {
        self.each[0].checked_add(self.each[1])
    }
}

/// Where the payer's money is claimed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    /// Free to be spent.
    Free,
    /// Held.
    Held,
    /// Taken.
    Taken,
}

/// What three accounts hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Three {
    payer: Money,
    payer_available: Money,
    paid: [Money; 2],
    on_its_way: Total,
}

impl Three {
    fn moved(self, shares: Shares, payer: Payer, is_paid: [bool; 2]) -> Option<Self> {
        let sum = shares.sum()?;
        let mut expected = self;
        match payer {
            Payer::Free => {}
            Payer::Held => expected.payer_available = self.payer_available.checked_sub(sum)?,
            Payer::Taken => {
                expected.payer = self.payer.checked_sub(sum)?;
                expected.payer_available = self.payer_available.checked_sub(sum)?;
                expected.on_its_way += Total::from(sum);
            }
        }
        for (index, share) in shares.each.iter().enumerate().filter(|(index, _)| is_paid[*index]) {
            expected.paid[index] = self.paid[index].checked_add(*share)?;
            expected.on_its_way = expected.on_its_way - Total::from(*share);
        }
        Some(expected)
    }
}

impl Scene {
    /// The third branch's account.
    ///
    /// # Errors
    /// [`Failure::THREE_BRANCHES_NEEDED`].
    pub fn third(&self) -> Result<Party, Failure> {
        self.third.clone().ok_or_else(|| {
            let text =
                "this lesson needs three branches that run with --teaching and know one another; 'make demo' has them";
            Failure::refused(Failure::THREE_BRANCHES_NEEDED, text)
        })
    }

    /// Both who are paid, in the order of the seed.
    pub fn receivers_in_order(&mut self) -> Result<[Party; 2], Failure> {
        let (receiver, third) = (self.receiver.clone(), self.third()?);
        Ok(self.order.of_two(receiver, third))
    }

    /// The first words of a lesson with three branches.
    pub fn opening_of_three(&mut self) -> Result<String, Failure> {
        let third = self.third()?.branch;
        let paid_in = self.fund()?;
        self.step_mode()?;
        self.step_mode_at(&third)?;
        let (payer, receiver) = self.names();
        let shown = self.shown_of_three(self.three()?)?;
        Ok(format!(
            "{paid_in}From now on every message between {payer}, {receiver} and {third} waits until we let it through.\n\n\
             {shown}"
        ))
    }

    /// Lets the payer's branch begin a split, and waits until its prepares wait at both others. `third_account` is whom the
    /// third branch is to pay.
    pub fn begin_split(&mut self, shares: Shares, third_account: u64) -> Result<(), Failure> {
        let (receiver, third) = (self.receiver.clone(), self.third()?);
        self.foreign_txid = None;
        self.three_before = Some(self.three()?);
        let known: BTreeSet<TxId> = self.waiting(&receiver.branch)?.into_iter().map(|waiting| waiting.txid).collect();
        let leg = |party: &Party, account: String, amount: Money| json!({"account_no": account, "amount": amount.to_string(), "dest_branch": party.branch});
        let params = json!({
            "src_account_no": self.payer.account.to_string(),
            "legs": [
                leg(&receiver, receiver.account.to_string(), shares.each[0]),
                leg(&third, third_account.to_string(), shares.each[1]),
            ],
        });
        let told = self.bank.begin(&self.payer.branch, &params);
        let mut begun = None;
        let mut refusal = None;
        wait(ARRIVAL_DEADLINE, || {
            let waiting = self.waiting(&receiver.branch)?;
            let new =
                waiting.into_iter().find(|waiting| waiting.message == "prepare" && !known.contains(&waiting.txid));
            begun = new.map(|waiting| waiting.txid);
            refusal = told.try_recv().ok();
            Ok(begun.is_some() || refusal.is_some())
        })?;
        let Some(txid) = begun else {
            return Err(match refusal {
                Some(Err(failure)) => failure,
                Some(Ok(result)) => Failure::claim(format!("the split was answered at once with {result}")),
                None => {
                    Failure::too_late(format!("no prepare came to {} within {ARRIVAL_DEADLINE:?}", receiver.branch))
                }
            });
        };
        self.transfers.push(txid);
        self.told = Some(told);
        self.arrives(&third.branch, "prepare")
    }

    /// Claims where the money of the split at hand is, counted from before it began, and shows what all hold.
    pub fn three_are(&self, shares: Shares, payer: Payer, is_paid: [bool; 2]) -> Result<String, Failure> {
        let Some(before) = self.three_before else { return Err(Failure::claim("no split has begun")) };
        let expected = before.moved(shares, payer, is_paid).ok_or_else(|| Failure::claim("so much can't be moved"))?;
        let mut found = before;
        let holds = wait(CLAIM_DEADLINE, || {
            found = self.three()?;
            Ok(found == expected)
        })?;
        if holds {
            return self.shown_of_three(found);
        }
        Err(Failure::claim(format!(
            "the money is not where this lesson says. It claims:\n{}\nThe branches say:\n{}",
            self.shown_of_three(expected)?,
            self.shown_of_three(found)?
        )))
    }

    /// Which of the two receivers this is: its place in [`Shares::each`].
    pub fn place_of(&self, party: &Party) -> usize {
        usize::from(*party != self.receiver)
    }

    fn three(&self) -> Result<Three, Failure> {
        let third = self.third()?;
        let payer = self.balance(&self.payer)?;
        let paid = [self.balance(&self.receiver)?.balance, self.balance(&third)?.balance];
        let mut on_its_way = Total::ZERO;
        for branch in [&self.payer.branch, &self.receiver.branch, &third.branch] {
            on_its_way += self.audit(branch)?.in_transit;
        }
        Ok(Three { payer: payer.balance, payer_available: payer.available, paid, on_its_way })
    }

    fn shown_of_three(&self, three: Three) -> Result<String, Failure> {
        let mut rows = vec![
            [self.payer.text(), three.payer.to_string(), three.payer_available.to_string()],
            [self.receiver.text(), three.paid[0].to_string(), String::new()],
            [self.third()?.text(), three.paid[1].to_string(), String::new()],
        ];
        if three.on_its_way != Total::ZERO {
            rows.push(["on its way".into(), three.on_its_way.to_string(), String::new()]);
        }
        let paid = Total::from(three.paid[0]) + Total::from(three.paid[1]);
        let together = Total::from(three.payer) + paid + three.on_its_way;
        rows.push(["together".into(), together.to_string(), String::new()]);
        Ok(table(["", "Rs", "can spend"], &rows))
    }

    /// What the client of the split at hand is told, when it is refused: the refusal.
    pub fn told_refusal(&mut self) -> Result<String, Failure> {
        let told = self.told()?;
        if told.starts_with("refused") { Ok(told) } else { Err(Failure::claim(format!("the client was told: {told}"))) }
    }

    /// What one branch says of itself at this moment: its accounts together, and what it has sent to others less what has
    /// come from them.
    pub fn books(&self, branch: &BranchName) -> Result<BooksAtOnce, Failure> {
        let audit = self.audit(branch)?;
        Ok(BooksAtOnce { balances: audit.balances, in_transit: audit.in_transit })
    }
}

/// A branch's books at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BooksAtOnce {
    /// All its accounts together.
    pub balances: Total,
    /// Sent to other branches, less what came from them.
    pub in_transit: Total,
}
