//! Somebody adds up the branches one after the other while money moves between them.

use protocol::{BranchName, Total};

use super::{Beat, Scenario};
use crate::lessons::failure::Failure;
use crate::lessons::limits::AMOUNT;
use crate::lessons::scene::{BooksAtOnce, Scene, Where};
use crate::lessons::table::table;

pub static SCENARIO: Scenario = Scenario {
    name: "fractured-read",
    title: "A reader between two commits",
    teaches: "Who reads two branches sees two moments; the books' money in transit makes the sum right.",
    beats: &[
        Beat::tell(Scene::opening),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                let before = [scene.books(&payer)?, scene.books(&receiver)?];
                scene.remember_sum(before);
                scene.begin(AMOUNT)?;
                scene.decide()?;
                let read = [(&payer, scene.books(&payer)?), (&receiver, scene.books(&receiver)?)];
                let table = balances(&read);
                differ(scene, &read, Total::ZERO - Total::from(AMOUNT))?;
                Ok(format!(
                    "Rs {AMOUNT} go from {payer} to {receiver}. {payer} has committed; the decision is still on its way to \
                     {receiver}. At this moment a reader asks both what their accounts hold, and adds up.\n\n{table}\n\n\
                     Before the transfer it was Rs {}.",
                    sum(&before)
                ))
            },
            "Rs 50 are missing. Have they vanished?",
            |scene| {
                let (payer, receiver) = scene.names();
                let read = [(&payer, scene.books(&payer)?), (&receiver, scene.books(&receiver)?)];
                let table = whole(scene, &read)?;
                Ok(format!(
                    "No. The reader saw one side's commit before the other's. {payer}'s books say of the same moment that \
                     Rs {AMOUNT} were sent away and have not been heard of: money in transit. Balances and money in transit \
                     together have not moved.\n\n{table}"
                ))
            },
        ),
        Beat::ask(
            |scene| {
                let (payer, receiver) = scene.names();
                scene.complete()?;
                scene.money_is(Where::Arrived)?;
                // The reader is quick at the one branch, and slow on its way to the other.
                let early = scene.books(&payer)?;
                scene.begin(AMOUNT)?;
                scene.decide()?;
                scene.complete()?;
                scene.money_is(Where::Arrived)?;
                let read = [(&payer, early), (&receiver, scene.books(&receiver)?)];
                let table = balances(&read);
                differ(scene, &read, Total::from(AMOUNT))?;
                scene.remember_read(early);
                Ok(format!(
                    "That transfer arrives. The reader asks {payer} once more, and is slow: before it comes to {receiver}, \
                     another Rs {AMOUNT} have gone all the way.\n\n{table}"
                ))
            },
            "Now there are Rs 50 too many, and nobody paid anything in. Where do they come from?",
            |scene| {
                let (payer, receiver) = scene.names();
                let early = scene.remembered_read()?;
                let read = [(&payer, early), (&receiver, scene.books(&receiver)?)];
                let table = whole(scene, &read)?;
                Ok(format!(
                    "From the same Rs {AMOUNT}, counted twice: at {payer} before they left, at {receiver} after they came. \
                     {receiver}'s books say that they came from elsewhere, and with that they are counted once. Each \
                     branch's books are right by themselves, so any moments add up: that is how the figure for the whole \
                     bank is made.\n\n{table}"
                ))
            },
        ),
        Beat::tell(|scene| {
            let closing = scene.closing()?;
            Ok(format!(
                "No lock was needed and no branch waited for another. A reader who wants one moment of all branches has to \
                 stop them; one who wants a right sum has to ask for the books.\n\n{closing}"
            ))
        }),
    ],
};

type Read<'n> = [(&'n BranchName, BooksAtOnce); 2];

fn sum(books: &[BooksAtOnce; 2]) -> Total {
    books.iter().map(|books| books.balances).sum()
}

/// What the reader sees and adds up.
fn balances(read: &Read<'_>) -> String {
    let mut rows: Vec<[String; 2]> =
        read.iter().map(|(name, books)| [name.to_string(), books.balances.to_string()]).collect();
    rows.push(["added up".into(), sum(&read.map(|(_, books)| books)).to_string()]);
    table(["", "Rs"], &rows)
}

/// Claims that what the reader sees is wrong by so much.
fn differ(scene: &Scene, read: &Read<'_>, by: Total) -> Result<(), Failure> {
    let (seen, right) = (sum(&read.map(|(_, books)| books)), scene.remembered_sum()?.0);
    if seen == right + by {
        return Ok(());
    }
    Err(Failure::claim(format!("the reader should see Rs {}, and sees Rs {seen}", right + by)))
}

/// The same with what the books say of money between branches; claims that it makes the sum right.
fn whole(scene: &Scene, read: &Read<'_>) -> Result<String, Failure> {
    let (_, right) = scene.remembered_sum()?;
    let together = |books: &BooksAtOnce| books.balances + books.in_transit;
    let all: Total = read.iter().map(|(_, books)| together(books)).sum();
    if all != right {
        return Err(Failure::claim(format!(
            "balances and money in transit should be Rs {right} together, and are Rs {all}"
        )));
    }
    let row = |name: String, books: &BooksAtOnce| {
        [name, books.balances.to_string(), books.in_transit.to_string(), together(books).to_string()]
    };
    let mut rows: Vec<[String; 4]> = read.iter().map(|(name, books)| row(name.to_string(), books)).collect();
    let in_transit: Total = read.iter().map(|(_, books)| books.in_transit).sum();
    let balances: Total = read.iter().map(|(_, books)| books.balances).sum();
    rows.push(["added up".into(), balances.to_string(), in_transit.to_string(), all.to_string()]);
    Ok(table(["", "accounts", "in transit", "together"], &rows))
}

impl Scene {
    /// Keeps what both branches held together before the first transfer: in accounts, and with what is between branches.
    fn remember_sum(&mut self, books: [BooksAtOnce; 2]) {
        let whole = books.iter().map(|books| books.balances + books.in_transit).sum();
        self.sum_before = Some((sum(&books), whole));
    }

    fn remembered_sum(&self) -> Result<(Total, Total), Failure> {
        self.sum_before.ok_or_else(|| Failure::claim("nobody has added up yet"))
    }

    fn remember_read(&mut self, books: BooksAtOnce) {
        self.early_read = Some(books);
    }

    fn remembered_read(&self) -> Result<BooksAtOnce, Failure> {
        self.early_read.ok_or_else(|| Failure::claim("nobody has read yet"))
    }
}
