//! The page of one kept run, as a file: the lab's own modules and styles in one HTML file, with the run as data.
//!
//! Browsers load no module from a file, so the modules that `ENTRY` needs are joined into one script: each becomes a
//! function that gives what it exports, in an order in which nothing is needed before it is there. Only the forms of
//! `import` and `export` are read that the page's modules have; a test joins them all, so another form is found before it is
//! served. Fonts that the styles name are put in as data.
//!
//! Keeps true: the file fetches nothing, and nothing runs in it but the one script whose hash its policy names. The run is
//! data: no text of it can end its element.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

/// The module that shows the run.
const ENTRY: &str = "lab/offline.js";
/// The styles, in the order in which the page links them.
const STYLES: [&str; 3] = ["tokens.css", "style.css", "lab.css"];
/// The element that holds the run, as the modules look for it.
const ELEMENT: &str = "bank-run";

/// Makes the page around a run, which is JSON. `read` gives the page's files.
///
/// # Errors
/// One sentence when a module or a style has a form that is not understood.
pub fn page(title: &str, run: &str, read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<String, String> {
    let script = Joiner { read, done: Vec::new(), joined: BTreeMap::new() }.join()?;
    let style = styles(read)?;
    // Within a script's or a style's element nothing but its end means anything.
    for (text, end) in [(&script, "</script"), (&script, "<!--"), (&style, "</style")] {
        if text.contains(end) {
            return Err(format!("{end} stands in what is to be in the page"));
        }
    }
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; font-src data:; img-src data:; base-uri 'none'; form-action 'none'",
        hash_of(&script),
        hash_of(&style)
    );
    let mut title_text = String::new();
    push_text(&mut title_text, title);
    // In JSON these letters stand in texts alone, and mean the same so written.
    let run = run.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n<title>{title_text}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<style>{style}</style>\n</head>\n<body>\n\
         <header class=\"bar signed-out\"><span class=\"brand\"><span class=\"brand-name\">A kept run</span></span>\
         <div class=\"tools\"><div class=\"pair\" id=\"sizes\" role=\"group\" aria-label=\"Text size\"></div></div></header>\n\
         <main id=\"content\" class=\"view lab\"><noscript>This page needs JavaScript.</noscript></main>\n\
         <script type=\"application/json\" id=\"{ELEMENT}\">{run}</script>\n<script>{script}</script>\n</body>\n</html>\n"
    ))
}

fn push_text(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(letter),
        }
    }
}

fn hash_of(text: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)))
}

fn text_of(read: &dyn Fn(&str) -> Option<Vec<u8>>, name: &str) -> Result<String, String> {
    let bytes = read(name).ok_or_else(|| format!("{name} is missing"))?;
    String::from_utf8(bytes).map_err(|_| format!("{name} is not UTF-8"))
}

/// All styles, with what they name beside them put in.
fn styles(read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<String, String> {
    let mut all = String::new();
    for name in STYLES {
        let text = text_of(read, name)?;
        let mut rest = text.as_str();
        while let Some(start) = rest.find("url(") {
            let (before, after) = rest.split_at(start + "url(".len());
            let end = after.find(')').ok_or_else(|| format!("a url in {name} has no end"))?;
            let named = after[..end].trim_matches(['"', '\'']);
            all.push_str(before);
            if named.starts_with("data:") || named.starts_with('#') {
                all.push_str(&after[..end]);
            } else {
                let file = named.trim_start_matches("/assets/").trim_start_matches("./");
                let bytes = read(file).ok_or_else(|| format!("{name} names {named}, which is missing"))?;
                let kind = if file.ends_with(".woff2") { "font/woff2" } else { "image/svg+xml" };
                let _ = write!(all, "\"data:{kind};base64,{}\"", BASE64_STANDARD.encode(bytes));
            }
            rest = &after[end..];
        }
        all.push_str(rest);
    }
    Ok(all)
}

/// Joins modules.
struct Joiner<'r> {
    read: &'r dyn Fn(&str) -> Option<Vec<u8>>,
    /// The modules so far, each after what it needs.
    done: Vec<String>,
    /// Their functions; empty while one is being looked at.
    joined: BTreeMap<String, String>,
}

impl Joiner<'_> {
    fn join(mut self) -> Result<String, String> {
        self.add(ENTRY)?;
        let mut script = String::from("\"use strict\";\n(() => {\n");
        for name in &self.done {
            let _ = writeln!(script, "const {} = (() => {{\n{}}})();", variable(name), self.joined[name]);
        }
        script.push_str("})();\n");
        Ok(script)
    }

    fn add(&mut self, name: &str) -> Result<(), String> {
        match self.joined.get(name) {
            Some(text) if text.is_empty() => return Err(format!("{name} needs itself")),
            Some(_) => return Ok(()),
            None => {}
        }
        self.joined.insert(name.to_string(), String::new());
        let text = text_of(self.read, name)?;
        let (mut body, mut exports) = (String::new(), Vec::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("import ") {
                let mut statement = line.to_string();
                while !statement.trim_end().ends_with(';') {
                    let more = lines.next().ok_or_else(|| format!("an import in {name} has no end"))?;
                    statement.push_str(more);
                }
                body.push_str(&self.import(name, &statement)?);
            } else if let Some(exported) = line.strip_prefix("export ") {
                exports.push(
                    declared(exported)
                        .ok_or_else(|| format!("{name} has a form of export that is not read: {line}"))?,
                );
                body.push_str(exported);
            } else {
                body.push_str(line);
            }
            body.push('\n');
        }
        let _ = writeln!(body, "return {{ {} }};", exports.join(", "));
        self.joined.insert(name.to_string(), body);
        self.done.push(name.to_string());
        Ok(())
    }

    /// What takes the place of an import, once the module that it names is there.
    fn import(&mut self, name: &str, statement: &str) -> Result<String, String> {
        let wrong = || format!("{name} has a form of import that is not read: {statement}");
        let inner =
            statement.strip_prefix("import ").and_then(|rest| rest.trim_end().strip_suffix(';')).ok_or_else(wrong)?;
        let (names, from) = inner.rsplit_once(" from ").ok_or_else(wrong)?;
        let module = beside(name, from.trim().trim_matches('"')).ok_or_else(wrong)?;
        self.add(&module)?;
        let names = names.trim();
        if let Some(all) = names.strip_prefix("* as ") {
            return Ok(format!("const {all} = {};", variable(&module)));
        }
        let list = names.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(wrong)?;
        Ok(format!("const {{{}}} = {};", list.replace(" as ", ": "), variable(&module)))
    }
}

/// The name of what is declared.
fn declared(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("async ").unwrap_or(text);
    let rest = ["function* ", "function ", "class ", "const "].iter().find_map(|kind| rest.strip_prefix(kind))?;
    let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != '$')?;
    (end > 0).then(|| &rest[..end])
}

/// The module that a name beside another means.
fn beside(name: &str, named: &str) -> Option<String> {
    let mut folders: Vec<&str> = name.split('/').collect();
    folders.pop();
    let mut rest = named.strip_prefix("./").or_else(|| named.starts_with("../").then_some(named))?;
    while let Some(above) = rest.strip_prefix("../") {
        folders.pop()?;
        rest = above;
    }
    folders.push(rest);
    Some(folders.join("/"))
}

fn variable(module: &str) -> String {
    let letters = module.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' });
    std::iter::once('$').chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<Vec<u8>> {
        move |name| {
            let found = files.iter().find(|(file, _)| *file == name).map(|(_, text)| text.as_bytes().to_vec());
            found.or_else(|| STYLES.contains(&name).then(Vec::new))
        }
    }

    #[test]
    fn the_pages_own_modules_are_joined_and_a_run_cannot_end_its_element() {
        let page = page("A <b> & c", r#"{"x":"</script><script>alert(1)</script>"}"#, &|name| {
            crate::assets::bytes(None, name)
        })
        .unwrap();
        assert!(page.contains("<title>A &lt;b&gt; &amp; c</title>") && !page.contains("alert(1)</script>"));
        assert_eq!(page.matches("</script>").count(), 2, "the run's and the program's");
        let script = page.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
        assert!(script.lines().all(|line| !line.starts_with("import ") && !line.starts_with("export ")));
        assert!(page.contains(&hash_of(script)), "the policy names what runs");
        for outside in ["/assets/", "src=", "href=", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn modules_come_after_what_they_need() {
        let read = files(&[
            (ENTRY, "import { a, b as c } from \"../x.js\";\nimport * as y from \"./y.js\";\na(c, y);\n"),
            ("x.js", "export function a() {}\nexport const b = 1;\n"),
            ("lab/y.js", "import {\n  a,\n} from \"../x.js\";\nexport class Y { z() { return a; } }\n"),
        ]);
        let page = page("t", "{}", &read).unwrap();
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} in {page}"));
        assert!(at("const $x_js") < at("const $lab_y_js") && at("const $lab_y_js") < at("const $lab_offline_js"));
        at("const { a, b: c } = $x_js;");
        at("const y = $lab_y_js;");
        at("return { a, b };");
        at("return { Y };");
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let check = |entry: &'static str, expected: &str| {
            let files: &'static [(&str, &str)] = Box::leak(Box::new([(ENTRY, entry)]));
            let error = page("t", "{}", &self::files(files)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("import \"../x.js\";\n", "import");
        check("import x from \"../x.js\";\n", "missing");
        check("import { a } from \"https://elsewhere/x.js\";\n", "import");
        check("export default 1;\n", "export");
        check("export { a };\n", "export");
        check("import { a } from \"./offline.js\";\n", "itself");
        check("const x = \"</script>\";\n", "</script");
    }
}
