//! The channel that appends each message to a file, as one JSON line.
//!
//! ```json
//! {"id":17,"to":"+919876543210","body":"Your account XXX001 …","date":"2026-11-22T01:34:59.123Z"}
//! ```
//!
//! `date` is when the movement was made. A message that is sent twice gives the same line twice, so a
//! reader drops doubles by `id`. A line is written with one call and forced to disk before the message
//! counts as delivered. The file is opened for each message: it may be moved away (rotated) at any time,
//! and a line that was cut short by a full disk is closed before the next one, so no line runs into
//! another. The file is made readable for its owner alone, for it holds phone numbers. Anything else that
//! can be opened for appending, such as `/dev/stderr`, works too, without the force to disk.
//!
//! This module refuses nothing for good: each error of the file system may pass.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Channel, OutboxMessage, SendError, SmsError};
use crate::clock::iso_utc;

/// The permissions of a new file: its owner reads and writes it, nobody else does.
const FILE_MODE: u32 = 0o600;

/// Appends messages to a file, one JSON line each.
#[derive(Debug)]
pub struct FileChannel {
    path: PathBuf,
}

impl FileChannel {
    /// A channel to the file at `path`, which is made if there is none.
    ///
    /// # Errors
    /// [`SmsError`] that names the file when it can't be opened for appending.
    pub fn open(path: &Path) -> Result<Self, SmsError> {
        match open_to_append(path) {
            Ok(_) => Ok(Self { path: path.to_path_buf() }),
            Err(error) => Err(SmsError::new(format!("can't open {} for text messages: {error}", path.display()))),
        }
    }

    fn append(&self, message: &OutboxMessage) -> io::Result<()> {
        let to = message.phone_e164();
        let line = Line { id: message.id, to: &to, body: &message.body, date: iso_utc(message.created_unix_ms) };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        let mut file = open_to_append(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return file.write_all(&bytes);
        }
        if ends_inside_a_line(&file, metadata.len())? {
            bytes.insert(0, b'\n');
        }
        file.write_all(&bytes)?;
        file.sync_all()
    }
}

impl Channel for FileChannel {
    fn send(&mut self, message: &OutboxMessage) -> Result<(), SendError> {
        self.append(message).map_err(|error| SendError::Transient {
            why: format!("can't write {}: {error}", self.path.display()),
            retry_after_ms: None,
        })
    }
}

#[derive(Serialize)]
struct Line<'a> {
    id: i64,
    to: &'a str,
    body: &'a str,
    date: String,
}

fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(FILE_MODE).open(path)
}

fn ends_inside_a_line(file: &File, length_bytes: u64) -> io::Result<bool> {
    let Some(last_offset) = length_bytes.checked_sub(1) else { return Ok(false) };
    let mut last = [b'\n'];
    // A file that was cut in between reads as nothing here and counts as ended.
    file.read_at(&mut last, last_offset)?;
    Ok(last != [b'\n'])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn message(id: i64, body: &str) -> OutboxMessage {
        OutboxMessage {
            id,
            phone: "9876543210".into(),
            body: body.into(),
            created_unix_ms: 1_795_311_299_123,
            attempts: 3,
            failing_since_unix_ms: None,
        }
    }

    #[test]
    fn each_message_is_one_json_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sms.jsonl");
        let mut channel = FileChannel::open(&path).unwrap();
        channel.send(&message(1, "अमित \"quoted\"\nline")).unwrap();
        channel.send(&message(2, "two")).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            concat!(
                r#"{"id":1,"to":"+919876543210","body":"अमित \"quoted\"\nline","date":"2026-11-22T01:34:59.123Z"}"#,
                "\n",
                r#"{"id":2,"to":"+919876543210","body":"two","date":"2026-11-22T01:34:59.123Z"}"#,
                "\n"
            )
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
    }

    #[test]
    fn a_line_cut_short_does_not_run_into_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sms.jsonl");
        fs::write(&path, "{\"id\":1,\"to\"").unwrap();
        let mut channel = FileChannel::open(&path).unwrap();
        channel.send(&message(2, "two")).unwrap();
        channel.send(&message(3, "three")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].starts_with("{\"id\":2,") && lines[2].starts_with("{\"id\":3,"), "{text}");
    }

    #[test]
    fn a_file_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sms.jsonl");
        let mut channel = FileChannel::open(&path).unwrap();
        channel.send(&message(1, "one")).unwrap();
        fs::rename(&path, folder.path().join("sms.1.jsonl")).unwrap();
        channel.send(&message(2, "two")).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("{\"id\":2,"));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let sub_folder = folder.path().join("sub");
        fs::create_dir(&sub_folder).unwrap();
        let path = sub_folder.join("sms.jsonl");
        let mut channel = FileChannel::open(&path).unwrap();
        fs::remove_dir_all(&sub_folder).unwrap();
        let error = channel.send(&message(1, "one")).unwrap_err();
        assert!(
            matches!(&error, SendError::Transient { why, retry_after_ms: None } if why.contains("sms.jsonl")),
            "{error:?}"
        );
        fs::create_dir(&sub_folder).unwrap();
        channel.send(&message(1, "one")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_folder_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(FileChannel::open(folder.path()).is_err());
    }
}
