//! The menus' texts: three files with placeholders, read and checked at start.
//!
//! A file is UTF-8 text. `{balance}` and its like stand for values that are filled in at each display; `{{`
//! and `}}` are a brace. A file with a placeholder that nobody fills in, or without one that the menu needs,
//! is refused with its name, the line and what would be right, so a mistake shows when the server starts and
//! not in front of a customer. A line that begins with `@` is text like any other, never a directive.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use protocol::BranchName;
use protocol::menu_line::ServerLine;

use super::MENU_FILE_BYTES_MAX;
use super::template::{MenuFault, MenuFile, Placeholder, Template};
use crate::bank::accounts::Account;

/// The checked texts of all menus.
#[derive(Debug)]
pub struct Texts {
    login: Template,
    customer: Template,
    admin: Template,
}

const LOGIN: MenuFile = MenuFile {
    name: "login.txt",
    built_in: include_str!("../../../menus/login.txt"),
    known: &[Placeholder::Branch],
    required: &[],
};
const CUSTOMER: MenuFile = MenuFile {
    name: "customer.txt",
    built_in: include_str!("../../../menus/customer.txt"),
    known: &[
        Placeholder::AccountNum,
        Placeholder::Available,
        Placeholder::Balance,
        Placeholder::Branch,
        Placeholder::Held,
        Placeholder::Name,
    ],
    required: &[Placeholder::AccountNum, Placeholder::Balance],
};
const ADMIN: MenuFile = MenuFile {
    name: "admin.txt",
    built_in: include_str!("../../../menus/admin.txt"),
    known: &[Placeholder::Branch],
    required: &[],
};

impl Texts {
    /// The copies that are built into the program.
    ///
    /// # Panics
    /// Never: a test checks the copies.
    #[must_use]
    pub fn built_in() -> Self {
        let parse =
            |file: &MenuFile| Template::parse(file, file.built_in.as_bytes()).expect("a test checks these copies");
        Self { login: parse(&LOGIN), customer: parse(&CUSTOMER), admin: parse(&ADMIN) }
    }

    /// Reads `login.txt`, `customer.txt` and `admin.txt` from a folder.
    ///
    /// # Errors
    /// [`TextsError`] for the first file that can't be used.
    pub fn load(folder: &Path) -> Result<Self, TextsError> {
        let load = |file: &MenuFile| {
            let path = folder.join(file.name);
            let bytes = read_capped(&path)?;
            Template::parse(file, &bytes).map_err(|(line, fault)| TextsError { path, line, fault })
        };
        Ok(Self { login: load(&LOGIN)?, customer: load(&CUSTOMER)?, admin: load(&ADMIN)? })
    }

    /// The texts from the folder that was named; if none was, from a folder `menus` in `beside`; if there is
    /// none, the built-in copies.
    ///
    /// # Errors
    /// As [`Texts::load`]. A folder that is there is used or refused, never passed over.
    pub fn find(named: Option<&Path>, beside: Option<&Path>) -> Result<Self, TextsError> {
        if let Some(folder) = named {
            return Self::load(folder);
        }
        match beside.map(|folder| folder.join("menus")).filter(|folder| folder.is_dir()) {
            Some(folder) => Self::load(&folder),
            None => Ok(Self::built_in()),
        }
    }

    /// The menu before the log-in.
    #[must_use]
    pub fn login(&self, branch: &BranchName) -> Vec<ServerLine> {
        self.login.render(&branch_alone(branch))
    }

    /// The customer's menu.
    #[must_use]
    pub fn customer(&self, branch: &BranchName, account: &Account) -> Vec<ServerLine> {
        self.customer.render(&|placeholder| match placeholder {
            Placeholder::AccountNum => account.number.to_string(),
            Placeholder::Available => account.available().to_string(),
            Placeholder::Balance => account.balance.to_string(),
            Placeholder::Branch => branch.to_string(),
            Placeholder::Held => account.held.to_string(),
            Placeholder::Name => account.name(),
        })
    }

    /// The administrator's menu.
    #[must_use]
    pub fn admin(&self, branch: &BranchName) -> Vec<ServerLine> {
        self.admin.render(&branch_alone(branch))
    }
}

/// The values of a menu that knows its branch and nothing else.
fn branch_alone(branch: &BranchName) -> impl Fn(Placeholder) -> String {
    move |placeholder| match placeholder {
        Placeholder::Branch => branch.to_string(),
        Placeholder::AccountNum
        | Placeholder::Available
        | Placeholder::Balance
        | Placeholder::Held
        | Placeholder::Name => unreachable!("{placeholder} is refused when this file is read"),
    }
}

fn read_capped(path: &Path) -> Result<Vec<u8>, TextsError> {
    let error = |fault| TextsError { path: path.to_path_buf(), line: None, fault };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|io_error| error(MenuFault::Unreadable(io_error)))?;
    let read = file.take(MENU_FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    let count = read.map_err(|io_error| error(MenuFault::Unreadable(io_error)))?;
    if count as u64 > MENU_FILE_BYTES_MAX { Err(error(MenuFault::TooLarge)) } else { Ok(bytes) }
}

/// Why the menu files can't be used. The message is one sentence for whoever starts the server.
#[derive(Debug)]
pub struct TextsError {
    path: PathBuf,
    /// Counted from 1.
    line: Option<usize>,
    fault: MenuFault,
}

impl fmt::Display for TextsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "menu file {}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        f.write_str(": ")?;
        self.fault.fmt(f)
    }
}

impl std::error::Error for TextsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            MenuFault::Unreadable(error) => Some(error),
            MenuFault::TooLarge
            | MenuFault::NotUtf8
            | MenuFault::Empty
            | MenuFault::Control
            | MenuFault::LoneBrace
            | MenuFault::Unknown(_, _)
            | MenuFault::Missing(_, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use protocol::{AccountNum, Money};

    use super::*;

    /// A folder with the built-in copies, one of them replaced.
    fn folder_with(name: &str, bytes: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in [&LOGIN, &CUSTOMER, &ADMIN] {
            fs::write(folder.path().join(file.name), file.built_in).unwrap();
        }
        fs::write(folder.path().join(name), bytes).unwrap();
        folder
    }

    /// Loads the folder and returns the error without the folder's own name.
    fn error_of(folder: &Path) -> String {
        let error = Texts::load(folder).unwrap_err().to_string();
        error.replace(&format!("{}{}", folder.display(), std::path::MAIN_SEPARATOR), "")
    }

    fn check(name: &str, bytes: &[u8], expected: &str) {
        assert_eq!(error_of(folder_with(name, bytes).path()), expected);
    }

    fn text(lines: &[ServerLine]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn account() -> Account {
        Account {
            number: AccountNum::new(1001).unwrap(),
            first_name: "Asha".into(),
            last_name: "Rao".into(),
            aadhaar: None,
            phone: None,
            sms: false,
            balance: Money::from_rupees(100),
            held: Money::from_rupees(30),
            incoming: Money::ZERO,
            is_open: true,
        }
    }

    fn shown(customer: &str, account: &Account) -> String {
        let texts = Texts::load(folder_with("customer.txt", customer.as_bytes()).path()).unwrap();
        text(&texts.customer(&"Mumbai".parse().unwrap(), account))
    }

    #[test]
    fn the_built_in_copies_are_right_and_ascii() {
        let texts = Texts::built_in();
        let branch = "Mumbai".parse().unwrap();
        let customer = text(&texts.customer(&branch, &account()));
        for part in ["@CLEAR\n", "Mumbai", "1001", "Asha Rao", "100.00", "30.00", "70.00", "g  Change password"] {
            assert!(customer.contains(part), "{part:?} in {customer}");
        }
        for lines in [texts.login(&branch), texts.admin(&branch)] {
            assert!(text(&lines).starts_with("@CLEAR\n") && text(&lines).contains("Mumbai"));
        }
        for file in [&LOGIN, &CUSTOMER, &ADMIN] {
            assert!(file.built_in.is_ascii(), "{}", file.name);
        }
    }

    #[test]
    fn values_are_filled_in_at_each_display() {
        let file = "{account_num}:{balance}{held} {{x}} {name}\r\n\r\n{available}";
        assert_eq!(shown(file, &account()), "@CLEAR\n1001:100.0030.00 {x} Asha Rao\n\n70.00\n");
    }

    #[test]
    fn a_line_that_begins_with_an_at_sign_stays_text() {
        let account = Account { first_name: "@EXIT".into(), last_name: "now".into(), ..account() };
        let file = "@EXIT gone\n@@twice\n{name}\n{account_num} {balance}";
        assert_eq!(shown(file, &account), "@CLEAR\n@@EXIT gone\n@@@twice\n@@EXIT now\n1001 100.00\n");
    }

    #[test]
    fn a_value_is_not_read_as_a_placeholder() {
        let account = Account { first_name: "{balance}".into(), last_name: String::new(), ..account() };
        assert_eq!(shown("{name} {account_num} {balance}", &account), "@CLEAR\n{balance} 1001 100.00\n");
    }

    #[test]
    fn an_unknown_placeholder_is_named_with_its_line_and_the_known_ones() {
        check(
            "customer.txt",
            b"{account_num}\n{balance}\n{blance}\n",
            "menu file customer.txt, line 3: the placeholder {blance} is unknown; known here: \
             {account_num}, {available}, {balance}, {branch}, {held}, {name}",
        );
        check(
            "login.txt",
            b"{balance}",
            "menu file login.txt, line 1: the placeholder {balance} is unknown; known here: {branch}",
        );
        let endless = format!("{{{}}}", "x".repeat(5_000));
        let folder = folder_with("admin.txt", endless.as_bytes());
        assert!(error_of(folder.path()).len() < 200);
    }

    #[test]
    fn a_missing_placeholder_is_named_with_the_known_ones() {
        check(
            "customer.txt",
            b"{account_num} and {{balance}}",
            "menu file customer.txt: the placeholder {balance} is missing; known here: \
             {account_num}, {available}, {balance}, {branch}, {held}, {name}",
        );
    }

    #[test]
    fn other_faults_are_named() {
        let brace = "there is a brace without its other half; a brace that is to be seen is {{ or }}";
        for line in ["{", "}", "a } b", "{branch", "{{}", "{branch}}"] {
            check("login.txt", line.as_bytes(), &format!("menu file login.txt, line 1: {brace}"));
        }
        check("login.txt", b"ok\n\xff\n", "menu file login.txt, line 2: it is not UTF-8 text");
        check("admin.txt", b" \n\n", "menu file admin.txt: it is empty");
        check(
            "admin.txt",
            b"a\tb",
            "menu file admin.txt, line 1: there is a control character, such as a tab; use blanks",
        );
    }

    #[test]
    fn a_file_over_the_limit_is_refused_and_one_at_it_is_not() {
        let limit = usize::try_from(MENU_FILE_BYTES_MAX).unwrap();
        check("login.txt", &vec![b'x'; limit + 1], "menu file login.txt: it has more than 65536 bytes");
        assert!(Texts::load(folder_with("login.txt", &vec![b'x'; limit]).path()).is_ok());
    }

    #[test]
    fn a_missing_file_or_folder_is_an_error() {
        let folder = folder_with("login.txt", b"ok");
        fs::remove_file(folder.path().join("admin.txt")).unwrap();
        assert!(error_of(folder.path()).starts_with("menu file admin.txt: "));
        assert!(Texts::load(&folder.path().join("none")).is_err());
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        let texts = Texts::load(folder_with("login.txt", b"\xef\xbb\xbfHello").path()).unwrap();
        assert_eq!(text(&texts.login(&"Main".parse().unwrap())), "@CLEAR\nHello\n");
    }

    #[test]
    fn a_folder_beside_the_program_comes_before_the_built_in_copies() {
        let named = folder_with("login.txt", b"named");
        let beside = tempfile::tempdir().unwrap();
        let login = |named: Option<&Path>| {
            let texts = Texts::find(named, Some(beside.path())).unwrap();
            text(&texts.login(&"Main".parse().unwrap()))
        };
        assert!(login(None).contains("Main"));
        let menus = beside.path().join("menus");
        fs::create_dir(&menus).unwrap();
        for file in [&LOGIN, &CUSTOMER, &ADMIN] {
            fs::write(menus.join(file.name), file.built_in).unwrap();
        }
        fs::write(menus.join("login.txt"), "beside").unwrap();
        assert_eq!(login(None), "@CLEAR\nbeside\n");
        assert_eq!(login(Some(named.path())), "@CLEAR\nnamed\n");
        fs::write(menus.join("login.txt"), "{oops}").unwrap();
        assert!(Texts::find(None, Some(beside.path())).is_err());
    }
}
