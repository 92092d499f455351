//! The scenarios, one file each, and what they are made of.
//!
//! A beat shows something: its script does it at the branches, checks it, and gives the text. Where it asks the
//! class a question, the answer is a script too, so it is true of these branches at this moment. Texts are short, for
//! a projector. `{payer}`, `{receiver}` and `{third}` in a question stand for the names of the branches.

mod coordinator_dies_after_votes;
mod cut_link_in_doubt;
mod double_spend_race;
mod doubled_commit;
mod fractured_read;
mod lost_acknowledgement;
mod normal_transfer;
mod one_hears_of_it_first;
mod one_of_three_says_no;
mod participant_dies_after_yes;
mod settled_by_hand;
mod the_old_way;

use crate::lessons::failure::Failure;
use crate::lessons::scene::Scene;

/// What is done at the branches, checked, and told.
pub type Script = fn(&mut Scene) -> Result<String, Failure>;

/// A lesson.
pub struct Scenario {
    /// The name under which it is started.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What one learns, in one sentence.
    pub teaches: &'static str,
    /// What is shown, in order.
    pub beats: &'static [Beat],
}

/// Something that is shown.
pub struct Beat {
    /// Does it and tells it.
    pub show: Script,
    /// What the class is asked then.
    pub question: Option<Question>,
}

/// Something to think about.
pub struct Question {
    /// The question.
    pub asks: &'static str,
    /// Checks and tells the answer.
    pub answer: Script,
}

impl Beat {
    /// A beat without a question.
    const fn tell(show: Script) -> Self {
        Self { show, question: None }
    }

    /// A beat with a question.
    const fn ask(show: Script, asks: &'static str, answer: Script) -> Self {
        Self { show, question: Some(Question { asks, answer }) }
    }
}

/// Every scenario, in the order in which a course would show them.
pub static ALL: &[&Scenario] = &[
    &normal_transfer::SCENARIO,
    &lost_acknowledgement::SCENARIO,
    &doubled_commit::SCENARIO,
    &double_spend_race::SCENARIO,
    &participant_dies_after_yes::SCENARIO,
    &coordinator_dies_after_votes::SCENARIO,
    &cut_link_in_doubt::SCENARIO,
    &fractured_read::SCENARIO,
    &one_of_three_says_no::SCENARIO,
    &one_hears_of_it_first::SCENARIO,
    &settled_by_hand::SCENARIO,
    &the_old_way::SCENARIO,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_asks_before_it_answers_and_has_a_name_of_its_own() {
        for (index, scenario) in ALL.iter().enumerate() {
            assert!(scenario.beats.iter().any(|beat| beat.question.is_some()), "{}", scenario.name);
            assert!(ALL[..index].iter().all(|other| other.name != scenario.name), "{}", scenario.name);
        }
    }
}
