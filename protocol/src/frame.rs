//! Frames: a 4-byte big-endian length, then that many bytes.
//!
//! A frame is read into a buffer that grows with the bytes that really arrive, so a length prefix that
//! promises a megabyte and then falls silent costs a few kilobytes. A clean end between two frames is
//! `Ok(None)`; an end inside one is [`FrameError::Cut`]. How long a silent peer may take is the socket's
//! business (its read timeout), not this module's.

use std::fmt;
use std::io::{self, Read, Write};

use crate::io_words::IoWords;

/// The longest frame of an ordinary request or answer, in bytes.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// The longest frame of a `batch` request or its answer, in bytes.
pub const BATCH_FRAME_BYTES_MAX: usize = 8 << 20;
/// The bytes of the length in front of each frame.
pub const HEADER_BYTES: usize = 4;

/// How much is asked of the reader at a time, in bytes.
const READ_BYTES: usize = 64 << 10;

const _: () = assert!(FRAME_BYTES_MAX < BATCH_FRAME_BYTES_MAX);
const _: () = assert!(BATCH_FRAME_BYTES_MAX <= u32::MAX as usize);

/// Reads one frame into `body`, which is cleared first. `Ok(false)` is a clean end between frames.
///
/// # Errors
/// [`FrameError::TooLong`] when the length is above `bytes_max` (nothing of the body is read),
/// [`FrameError::Cut`] when the stream ends inside a frame, [`FrameError::Io`] otherwise.
pub fn read_frame(reader: &mut impl Read, bytes_max: usize, body: &mut Vec<u8>) -> Result<bool, FrameError> {
    body.clear();
    let mut header = [0; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match reader.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(FrameError::Cut),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    let length = u32::from_be_bytes(header) as usize;
    if length > bytes_max {
        return Err(FrameError::TooLong { length, bytes_max });
    }
    while body.len() < length {
        let wanted = (length - body.len()).min(READ_BYTES);
        let before = body.len();
        body.resize(before + wanted, 0);
        let outcome = reader.read(&mut body[before..]);
        body.truncate(before + outcome.as_ref().map_or(0, |count| *count));
        match outcome {
            Ok(0) => return Err(FrameError::Cut),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    Ok(true)
}

/// Whether what has been read ahead begins with a frame to its end, so that [`read_frame`] need not wait for it.
#[must_use]
pub fn holds_whole_frame(read_ahead: &[u8]) -> bool {
    let Some((header, body)) = read_ahead.split_first_chunk::<HEADER_BYTES>() else { return false };
    body.len() >= u32::from_be_bytes(*header) as usize
}

/// Appends `body` as one frame to `out`, so several frames can leave in one write.
///
/// # Errors
/// [`FrameError::TooLong`] when `body` is above `bytes_max`; `out` is then unchanged.
pub fn push_frame(out: &mut Vec<u8>, body: &[u8], bytes_max: usize) -> Result<(), FrameError> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= bytes_max);
    let Some(length) = length else {
        return Err(FrameError::TooLong { length: body.len(), bytes_max });
    };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
    Ok(())
}

/// Writes `body` as one frame in one write.
///
/// # Errors
/// As [`push_frame`], or [`FrameError::Io`].
pub fn write_frame(writer: &mut impl Write, body: &[u8], bytes_max: usize) -> Result<(), FrameError> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    push_frame(&mut out, body, bytes_max)?;
    writer.write_all(&out).map_err(FrameError::Io)
}

/// Why a frame could not be read or written.
#[derive(Debug)]
pub enum FrameError {
    /// The frame is longer than this connection takes.
    TooLong {
        /// The length that the frame has, or announces, in bytes.
        length: usize,
        /// The longest that is taken, in bytes.
        bytes_max: usize,
    },
    /// The stream ended inside a frame.
    Cut,
    /// The stream failed.
    Io(io::Error),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length, bytes_max } => {
                write!(f, "a frame of {length} bytes is over the limit of {bytes_max}")
            }
            Self::Cut => f.write_str("the connection ended in the middle of a frame"),
            Self::Io(error) => IoWords(error).fmt(f),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives one byte at a time, as a slow network would.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            if buffer.is_empty() {
                return Ok(0);
            }
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn a_frame_is_whole_with_its_last_byte() {
        for (read_ahead, expected) in [
            (&b""[..], false),
            (b"\0\0\0", false),
            (b"\0\0\0\x02a", false),
            (b"\0\0\0\x02ab\0", true),
            (b"\0\0\0\0", true),
        ] {
            assert_eq!(holds_whole_frame(read_ahead), expected, "{read_ahead:?}");
        }
    }

    #[test]
    fn a_clean_end_is_told_from_a_cut_frame() {
        let mut body = Vec::new();
        assert!(!read_frame(&mut &b""[..], 16, &mut body).unwrap());
        for cut in [&b"\0"[..], b"\0\0\0", b"\0\0\0\x02", b"\0\0\0\x02x"] {
            assert!(matches!(read_frame(&mut &*cut, 16, &mut body), Err(FrameError::Cut)), "bytes {cut:?}");
        }
    }

    #[test]
    fn a_length_over_the_limit_reads_nothing_of_the_body() {
        let mut bytes = &b"\xff\xff\xff\xffbody"[..];
        let error = read_frame(&mut bytes, 16, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { bytes_max: 16, .. }));
        assert_eq!(bytes, b"body");
    }

    #[test]
    fn a_promised_megabyte_that_never_comes_costs_little() {
        let mut body = Vec::new();
        let mut bytes = &b"\0\x10\0\0x"[..];
        assert!(matches!(read_frame(&mut bytes, FRAME_BYTES_MAX, &mut body), Err(FrameError::Cut)));
        assert!(body.capacity() <= 4 * READ_BYTES, "capacity {}", body.capacity());
    }

    #[test]
    fn a_body_over_the_limit_is_not_written() {
        let mut out = vec![1];
        assert!(matches!(push_frame(&mut out, b"12345", 4), Err(FrameError::TooLong { length: 5, .. })));
        assert_eq!(out, [1]);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
            let mut bytes = Vec::new();
            for body in &bodies {
                push_frame(&mut bytes, body, 200).unwrap();
            }
            let mut reader = Trickle(&bytes);
            let mut body = Vec::new();
            for expected in &bodies {
                prop_assert!(read_frame(&mut reader, 200, &mut body).unwrap());
                prop_assert_eq!(&body, expected);
            }
            prop_assert!(!read_frame(&mut reader, 200, &mut body).unwrap());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = &bytes[..];
            let mut body = Vec::new();
            while let Ok(true) = read_frame(&mut reader, 32, &mut body) {
                prop_assert!(body.len() <= 32);
            }
        }
    }
}
