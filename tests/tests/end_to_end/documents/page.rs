//! A page's blocks of commands, and what their markers say.
//!
//! The marker is what stands behind the language of a fenced block, where readers of the page don't see it:
//!
//! - `console run` is run in the page's shell; `console stays=NAME` in a terminal of that name, where its last command
//!   goes on, after Ctrl-C for what was there before;
//! - `text menu password=…` is a session at the menu: the answers behind its prompts are given to `bank-client`;
//! - `console not-run="why"` is not run.
//!
//! Beside `run`: `until="COMMAND"` waits until the command succeeds, `kills=NAME` kills what goes on in a terminal
//! before, `needs=PROGRAM` passes the block over where the machine has no such program, `enters` presses Enter
//! whenever a command reads, and `vary="WORDS"` names what else differs from run to run.

/// The blocks of a document.
pub struct Page {
    pub blocks: Vec<Block>,
}

/// One fenced block of commands, or a session at the menu.
pub struct Block {
    /// Where it stands, for whoever reads a failure.
    pub place: String,
    pub run: Run,
    pub until: Option<String>,
    pub kills: Option<String>,
    pub needs: Option<String>,
    pub enters: bool,
    pub vary: Vec<String>,
    pub lines: Vec<String>,
}

/// How a block is run.
#[derive(Debug)]
pub enum Run {
    /// In the page's shell, to its end.
    InShell,
    /// In a terminal of this name, where it goes on.
    Stays(String),
    /// As answers at the menu, with this password behind the stars.
    Menu { password: String },
    /// Not at all.
    Not,
}

/// A command and what is shown below it.
pub struct Command {
    pub text: String,
    pub shown: Vec<String>,
}

impl Page {
    /// Reads a page.
    pub fn parse(document: &str, text: &str) -> Self {
        let mut blocks = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(marker) = line.trim_start().strip_prefix("```") else { continue };
            let inside: Vec<String> = lines
                .by_ref()
                .map(|(_, line)| line.to_string())
                .take_while(|line| !line.trim_start().starts_with("```"))
                .collect();
            let place = format!("{document}:{}", number + 1);
            if let Some(block) = Block::parse(place, marker, inside) {
                blocks.push(block);
            }
        }
        Self { blocks }
    }
}

impl Block {
    /// Reads a block; nothing where it has neither commands nor a session.
    fn parse(place: String, marker: &str, lines: Vec<String>) -> Option<Self> {
        let has_commands = lines.iter().any(|line| line.trim_start().starts_with("$ "));
        let mut fields = split_marker(marker).into_iter();
        let _language = fields.next();
        let mut block = Self {
            place,
            run: Run::Not,
            until: None,
            kills: None,
            needs: None,
            enters: false,
            vary: Vec::new(),
            lines,
        };
        let mut said_how = false;
        let mut password = None;
        for field in fields {
            let (name, value) = field.split_once('=').unwrap_or((&field, ""));
            let value = value.trim_matches('"').to_string();
            match name {
                "run" => block.run = Run::InShell,
                "stays" => block.run = Run::Stays(value),
                "menu" => block.run = Run::Menu { password: String::new() },
                "not-run" => assert!(!value.is_empty(), "{}: why is it not run?", block.place),
                "password" => password = Some(value),
                "until" => block.until = Some(value),
                "kills" => block.kills = Some(value),
                "needs" => block.needs = Some(value),
                "enters" => block.enters = true,
                "vary" => block.vary = value.split_whitespace().map(ToString::to_string).collect(),
                _ => panic!("{}: {field} is no part of a marker", block.place),
            }
            said_how |= matches!(name, "run" | "stays" | "menu" | "not-run");
        }
        if let (Run::Menu { password: wanted }, Some(password)) = (&mut block.run, password) {
            *wanted = password;
        }
        assert!(said_how || !has_commands, "{}: is this block run, and if not, why?", block.place);
        said_how.then_some(block)
    }

    /// Its commands in order, each with what is shown below it.
    pub fn commands(&self) -> Vec<Command> {
        let mut commands: Vec<Command> = Vec::new();
        let mut goes_on = false;
        for line in &self.lines {
            if goes_on {
                let command = commands.last_mut().expect("it has begun");
                command.text.push('\n');
                command.text.push_str(line);
                goes_on = line.ends_with('\\');
            } else if let Some(text) = line.strip_prefix("$ ") {
                commands.push(Command { text: text.to_string(), shown: Vec::new() });
                goes_on = text.ends_with('\\');
            } else {
                let command = commands.last_mut().unwrap_or_else(|| panic!("{}: {line} of which command?", self.place));
                command.shown.push(line.clone());
            }
        }
        commands
    }
}

/// The fields of a marker; blanks between double quotes don't part them.
fn split_marker(marker: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in marker.trim().chars() {
        quoted ^= c == '"';
        if c == ' ' && !quoted {
            fields.push(String::new());
        } else {
            fields.last_mut().expect("there is one").push(c);
        }
    }
    fields.retain(|field| !field.is_empty());
    fields
}
