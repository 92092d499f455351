//! Which characters a name may have: those that a person can see.
//!
//! Two accounts whose names look the same and are not, or a name with nothing to see, deceive the people at the
//! counter. So the rule lists what is good, by Unicode's general categories, and refuses the rest: letters, marks,
//! numbers, punctuation, and the signs of money and mathematics. What is refused so are controls, format characters
//! and marks of direction, tags, private and unassigned characters, pictures and blank patterns. Within the good
//! categories Unicode names a few characters that are shown as nothing ("default ignorable"): they are listed here,
//! and the list is closed, for its property is stable.
//!
//! Two format characters are needed: the joiners U+200C and U+200D, with which Indian and Arabic scripts are written.
//! They are taken where they change what is seen, by the rules of RFC 5892, appendix A.1 and A.2, made narrower where a
//! joiner would show nothing.
//!
//! What it leaves out: letters of two alphabets that look alike (Latin `a`, Cyrillic `а`). Those can be seen, and people
//! bear such names.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// Zero width non-joiner.
const NON_JOINER: char = '\u{200c}';
/// Zero width joiner.
const JOINER: char = '\u{200d}';

/// The most marks without a width of their own on one letter. Hebrew with its points and Tibetan stacks need four; a
/// heap of them paints over the lines around it.
const MARKS_MAX: usize = 4;

/// What is wrong with a name's characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is nothing to see.
    Blank,
    /// One breaks lines, or steers what is shown after it.
    Control,
    /// One can't be seen, or not where it stands.
    Invisible,
    /// More than [`MARKS_MAX`] marks on one letter, or a mark on none.
    Marks,
}

/// Checks a name whose blanks are single U+0020 within it.
pub(super) fn check(name: &str) -> Result<(), Fault> {
    let characters: Vec<char> = name.chars().collect();
    if characters.iter().all(|character| is_unseen(*character)) {
        return Err(Fault::Blank);
    }
    let mut marks = 0;
    let mut has_base = false;
    for (position, &character) in characters.iter().enumerate() {
        let (before, after) = (&characters[..position], &characters[position + 1..]);
        match character {
            _ if is_steering(character) => return Err(Fault::Control),
            NON_JOINER if separates(before, after) => continue,
            JOINER if before.last().is_some_and(|last| is_virama(*last)) => continue,
            _ if is_unseen(character) && character != ' ' => return Err(Fault::Invisible),
            _ => {}
        }
        match character.general_category_group() {
            GeneralCategoryGroup::Mark => {
                // A mark with a width of its own (a vowel sign) is seen by itself and piles nothing up.
                marks += usize::from(!is_spacing_mark(character));
                if !has_base || marks > MARKS_MAX {
                    return Err(Fault::Marks);
                }
            }
            group => {
                marks = 0;
                has_base = group != GeneralCategoryGroup::Separator;
            }
        }
    }
    Ok(())
}

/// Whether a character breaks lines, or turns the direction of what follows.
fn is_steering(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether nobody sees a character by itself.
fn is_unseen(character: char) -> bool {
    use unicode_properties::GeneralCategory as Category;
    match character.general_category() {
        Category::UppercaseLetter
        | Category::LowercaseLetter
        | Category::TitlecaseLetter
        | Category::ModifierLetter
        | Category::OtherLetter
        | Category::NonspacingMark
        | Category::SpacingMark
        | Category::DecimalNumber
        | Category::LetterNumber
        | Category::OtherNumber
        | Category::ConnectorPunctuation
        | Category::DashPunctuation
        | Category::OpenPunctuation
        | Category::ClosePunctuation
        | Category::InitialPunctuation
        | Category::FinalPunctuation
        | Category::OtherPunctuation
        | Category::MathSymbol
        | Category::CurrencySymbol
        | Category::ModifierSymbol => is_default_ignorable(character),
        Category::EnclosingMark
        | Category::OtherSymbol
        | Category::SpaceSeparator
        | Category::LineSeparator
        | Category::ParagraphSeparator
        | Category::Control
        | Category::Format
        | Category::Surrogate
        | Category::PrivateUse
        | Category::Unassigned => true,
    }
}

/// Letters and marks that are shown as nothing: Unicode's property `Default_Ignorable_Code_Point`, without the format
/// characters and the unassigned ones, which are refused as such.
fn is_default_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

fn is_spacing_mark(character: char) -> bool {
    character.general_category() == unicode_properties::GeneralCategory::SpacingMark
}

fn is_mark(character: char) -> bool {
    character.general_category_group() == GeneralCategoryGroup::Mark
}

/// Whether a non-joiner between these keeps apart what would be joined: a consonant after a virama, or two letters of
/// the Arabic script of which the first reaches for the next.
fn separates(before: &[char], after: &[char]) -> bool {
    let is_before_letter =
        after.first().is_some_and(|next| next.general_category_group() == GeneralCategoryGroup::Letter);
    if before.last().is_some_and(|last| is_virama(*last)) {
        return is_before_letter;
    }
    // Vowel signs between the two letters don't keep them from joining.
    let last = before.iter().rev().find(|character| !is_mark(**character));
    let next = after.iter().find(|character| !is_mark(**character));
    last.is_some_and(|last| joins_the_next(*last)) && next.is_some_and(|next| joins_the_one_before(*next))
}

/// The signs that take a consonant's vowel away, of canonical combining class 9 (UnicodeData.txt), in the scripts that
/// stand in the basic plane.
fn is_virama(character: char) -> bool {
    matches!(
        character,
        '\u{94d}'
            | '\u{9cd}'
            | '\u{a4d}'
            | '\u{acd}'
            | '\u{b4d}'
            | '\u{bcd}'
            | '\u{c4d}'
            | '\u{ccd}'
            | '\u{d3b}'
            | '\u{d3c}'
            | '\u{d4d}'
            | '\u{dca}'
            | '\u{1039}'
            | '\u{103a}'
            | '\u{17d2}'
            | '\u{1b44}'
            | '\u{1baa}'
            | '\u{a806}'
            | '\u{a8c4}'
            | '\u{a9c0}'
            | '\u{abed}'
    )
}

/// Arabic letters that join on both sides (joining type D of ArabicShaping.txt).
fn joins_the_next(character: char) -> bool {
    joins_the_one_before(character)
        && !matches!(
            character,
            '\u{622}'..='\u{625}' | '\u{627}' | '\u{629}' | '\u{62f}'..='\u{632}' | '\u{648}' | '\u{671}'..='\u{673}'
                | '\u{675}'..='\u{677}' | '\u{688}'..='\u{699}' | '\u{6c0}' | '\u{6c3}'..='\u{6cb}' | '\u{6cd}'
                | '\u{6cf}' | '\u{6d2}'..='\u{6d3}' | '\u{6d5}' | '\u{6ee}'..='\u{6ef}'
        )
}

/// Arabic letters that join the one before them (joining types D and R of ArabicShaping.txt).
fn joins_the_one_before(character: char) -> bool {
    matches!(
        character,
        '\u{620}' | '\u{622}'..='\u{63f}' | '\u{641}'..='\u{64a}' | '\u{66e}'..='\u{66f}' | '\u{671}'..='\u{673}'
            | '\u{675}'..='\u{6d3}' | '\u{6d5}' | '\u{6ee}'..='\u{6ef}' | '\u{6fa}'..='\u{6fc}' | '\u{6ff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str, expected: Option<Fault>) {
        assert_eq!(check(name).err(), expected, "name {}", name.escape_unicode());
    }

    #[test]
    fn a_name_that_people_bear_is_taken() {
        for name in [
            "Asha Rani",
            "O'Neil",
            "'; DROP TABLE customers; --",
            "आशा",
            "राष्ट्र परीक्षण",
            "李",
            "R2",
            "@EXIT",
            "Zoë Müller",
            "Nguye\u{302}\u{303}n",
            "日本語",
            "\u{5e9}\u{5c1}\u{5b8}\u{5dc}",
            "ಕನ್ನಡ",
            "தமிழ்",
            "ᱥᱟᱱᱛᱟᱲᱤ",
            "Anne-Marie",
            "№",
            "J₂ + ₹",
        ] {
            let expected = (name == "№").then_some(Fault::Blank);
            fault(name, expected);
        }
    }

    #[test]
    fn joiners_are_taken_where_they_are_seen() {
        for name in [
            "\u{915}\u{94d}\u{200d}\u{937}",
            "\u{915}\u{94d}\u{200c}\u{937}",
            "\u{d28}\u{d4d}\u{200d}",
            "\u{dc1}\u{dca}\u{200d}\u{dbb}\u{dd3}",
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
        ] {
            fault(name, None);
        }
        for name in [
            "As\u{200d}ha",
            "As\u{200c}ha",
            "Asha\u{200d}",
            "\u{200d}Asha",
            "\u{915}\u{94d}\u{200d}\u{200d}\u{937}",
            "\u{915}\u{94d}\u{200c}",
            "\u{930}\u{200d}",
            "\u{62f}\u{200c}\u{627}",
            "\u{645}\u{6cc}\u{200c}",
            "\u{6cc}\u{200c} \u{62e}",
        ] {
            fault(name, Some(Fault::Invisible));
        }
    }

    #[test]
    fn what_nobody_sees_is_refused() {
        for unseen in [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180b}',
            '\u{180e}',
            '\u{200b}',
            '\u{200e}',
            '\u{2060}',
            '\u{2064}',
            '\u{206a}',
            '\u{2800}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fffc}',
            '\u{1d159}',
            '\u{1d173}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{e000}',
            '\u{378}',
            '\u{3000}',
            '\u{a0}',
            '\u{2003}',
        ] {
            fault(&unseen.to_string(), Some(Fault::Blank));
            fault(&format!("As{unseen}ha"), Some(Fault::Invisible));
        }
        for steering in ['\u{7}', '\n', '\u{2028}', '\u{202e}', '\u{2067}'] {
            fault(&format!("A{steering}B"), Some(Fault::Control));
        }
    }

    #[test]
    fn a_heap_of_marks_is_refused() {
        fault(&format!("A{}", "\u{301}".repeat(MARKS_MAX)), None);
        fault(&format!("A{}", "\u{301}".repeat(MARKS_MAX + 1)), Some(Fault::Marks));
        fault("\u{301}A", Some(Fault::Marks));
        fault("A \u{301}", Some(Fault::Marks));
        fault("A\u{20dd}", Some(Fault::Invisible));
    }
}
