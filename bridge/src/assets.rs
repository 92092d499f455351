//! The page's files: built into the program, or from a folder while someone works on the page.
//!
//! A file that is not in the list does not exist. Each has an ETag, its hash, and is asked for anew each time, so a
//! new program never meets an old page's script.

use std::path::Path;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::proof::to_hex;
use sha2::{Digest as _, Sha256};

use crate::error::Error;

macro_rules! files {
    ($($name:literal,)*) => {
        /// Name and bytes of each file of the folder `assets`.
        const FILES: &[(&str, &[u8])] = &[$(($name, include_bytes!(concat!("../assets/", $name))),)*];
    };
}

files! {
    "api.js",
    "app.js",
    "charts.js",
    "dom.js",
    "feed.js",
    "fields.js",
    "format.js",
    "frame.js",
    "icon.svg",
    "icons.js",
    "index.html",
    "keys.js",
    "lab.css",
    "lab/controls.js",
    "lab/detail.js",
    "lab/diagram.js",
    "lab/export.js",
    "lab/faults.js",
    "lab/foreign_log.js",
    "lab/glyphs.js",
    "lab/lab.js",
    "lab/layout.js",
    "lab/logs.js",
    "lab/model.js",
    "lab/money.js",
    "lab/money_view.js",
    "lab/offline.js",
    "lab/open_file.js",
    "lab/order.js",
    "lab/player.js",
    "lab/run_file.js",
    "lab/scenarios.js",
    "lab/start.js",
    "lab/store.js",
    "lab/transfers.js",
    "lab/viewer.js",
    "lab/words.js",
    "money.js",
    "orders.js",
    "stream.js",
    "style.css",
    "table.js",
    "tokens.css",
    "views/accounts.js",
    "views/bank.js",
    "views/doubt.js",
    "views/mine.js",
    "views/operate.js",
    "views/signin.js",
    "views/transactions.js",
}

/// The page itself.
pub const PAGE: &str = "index.html";

/// Answers with a file.
///
/// # Errors
/// [`Error::NotFound`].
pub fn serve(folder: Option<&Path>, name: &str, headers: &HeaderMap) -> Result<Response, Error> {
    let bytes = find(folder, name).ok_or_else(|| Error::NotFound("there is no such file".into()))?;
    let tag = format!("\"{}\"", &to_hex(&Sha256::digest(&bytes))[..32]);
    let cached = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    if known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag) {
        return Ok((StatusCode::NOT_MODIFIED, cached).into_response());
    }
    Ok((cached, [(header::CONTENT_TYPE, content_type(name))], Body::from(bytes)).into_response())
}

/// A copy of a file.
#[must_use]
pub fn bytes(folder: Option<&Path>, name: &str) -> Option<Vec<u8>> {
    find(folder, name).map(|bytes| bytes.to_vec())
}

fn find(folder: Option<&Path>, name: &str) -> Option<Bytes> {
    // What is built in is sent from where it is: whoever reads nothing of it holds no copy.
    let Some(folder) = folder else {
        return FILES.iter().find(|(file, _)| *file == name).map(|(_, bytes)| Bytes::from_static(bytes));
    };
    let is_plain = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    if !is_plain || name.contains('\\') {
        return None;
    }
    std::fs::read(folder.join(name)).ok().map(Bytes::from)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    fn collect(folder: &Path, prefix: &str, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), &format!("{name}/"), names);
            } else {
                names.insert(name);
            }
        }
    }

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("assets")
    }

    #[test]
    fn every_file_of_the_folder_is_built_in_with_a_type() {
        let mut names = BTreeSet::new();
        collect(&folder(), "", &mut names);
        let listed: BTreeSet<_> = FILES.iter().map(|(name, _)| (*name).to_string()).collect();
        assert_eq!(listed, names, "the list in assets.rs and the folder");
        for name in &listed {
            assert_ne!(content_type(name), "application/octet-stream", "{name}");
        }
    }

    #[test]
    fn a_file_is_sent_once() {
        let first = serve(None, PAGE, &HeaderMap::new()).unwrap();
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(serve(None, PAGE, &headers).unwrap().status(), StatusCode::NOT_MODIFIED);
        assert!(serve(None, "nothing.js", &headers).is_err());
    }

    #[test]
    fn a_folder_gives_nothing_beside_it() {
        let check = |name: &str| serve(Some(&folder()), name, &HeaderMap::new()).is_ok();
        assert!(check(PAGE));
        for name in ["../Cargo.toml", "..", "/etc/passwd", "./index.html", ".hidden", "a/../index.html", "..\\x"] {
            assert!(!check(name), "{name}");
        }
    }
}
